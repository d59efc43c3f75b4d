package streams

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pelletier/go-toml/v2"

	"github.com/coppice-go/coppice/engines/streams/codec"
)

// Definition is what an operator's file says about a sink: HOME/streams/NAME.toml. Its zero fields
// have the defaults that ParseDefinition fills in.
type Definition struct {
	Name string // of the file, without .toml
	File string // path of the file, for messages; relative names of files are relative to its folder

	Kind    string            // of the factory
	Filter  []string          // see Filter; empty: everything
	Codecs  map[string]string // key prefix → codec
	Standby bool              // another node may write; this one continues the sink when the other is gone

	Bodies bool // deliver the bodies of transactions
	Before bool // deliver the values before changes
	Log    bool // deliver the texts of results

	OnReject   string        // stop or park
	ParkLimit  int           // parked events within ParkWindow that stop the slot
	ParkWindow time.Duration //
	OnGap      string        // stop, bootstrap, wait or record
	Bootstrap  string        // initial, never, always, when_lost, or a height
	KeepBytes  int64         // cap of the log that the slot holds; 0: none
	KeepTime   time.Duration // the same by age
	KeepBehind time.Duration // rewind margin

	text []byte // the file, which Decode reads again for the kind's own keys

	descriptors map[string][]byte // the files of codecs proto, by the name in the definition
}

// The defaults of a definition.
const (
	DefaultKeepBytes  = 16 << 30
	DefaultKeepTime   = 7 * 24 * time.Hour
	DefaultKeepBehind = time.Hour
	DefaultParkLimit  = 100
)

// fileKeys are the keys of a definition that every kind has. A nil pointer is a key that the file
// lacks.
type fileKeys struct {
	Kind       string            `toml:"kind"`
	Filter     []string          `toml:"filter"`
	Codecs     map[string]string `toml:"codecs"`
	Standby    bool              `toml:"standby"`
	Bodies     bool              `toml:"bodies"`
	Before     bool              `toml:"before"`
	Log        bool              `toml:"log"`
	OnReject   string            `toml:"on_reject"`
	ParkLimit  *int              `toml:"park_limit"`
	ParkWindow *duration         `toml:"park_window"`
	OnGap      string            `toml:"on_gap"`
	Bootstrap  string            `toml:"bootstrap"`
	KeepBytes  *int64            `toml:"keep_bytes"`
	KeepTime   *duration         `toml:"keep_time"`
	KeepBehind *duration         `toml:"keep_behind"`
}

type duration time.Duration

func (d *duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	if err == nil && v < 0 {
		err = fmt.Errorf("%s is negative", v)
	}
	*d = duration(v)
	return err
}

// MaxDefinition is the most bytes that a definition may have. A request to add one has room for it.
const MaxDefinition = 60 << 10

// ErrDefinition is wrapped by the errors of a definition, which name file, line and column.
var ErrDefinition = errors.New("definition of a stream")

// ParseDefinition returns the definition that text, the content of file, describes. The keys of its
// kind are checked by Decode.
func ParseDefinition(file string, text []byte) (Definition, error) {
	name := strings.TrimSuffix(filepath.Base(file), ".toml")
	if err := CheckName(name); err != nil {
		return Definition{}, fmt.Errorf("%w: %s: %w", ErrDefinition, file, err)
	}

	if len(text) > MaxDefinition {
		return Definition{}, fmt.Errorf("%w: %s has %d bytes, want at most %d", ErrDefinition, file, len(text),
			MaxDefinition)
	}

	var keys fileKeys
	if err := toml.Unmarshal(text, &keys); err != nil {
		return Definition{}, tomlError(file, err)
	}

	d := Definition{
		Name: name, File: file, Kind: keys.Kind, Filter: keys.Filter, Codecs: keys.Codecs, Standby: keys.Standby,
		Bodies: keys.Bodies, Before: keys.Before, Log: keys.Log,
		OnReject: cmp.Or(keys.OnReject, "stop"), OnGap: cmp.Or(keys.OnGap, "stop"),
		Bootstrap: cmp.Or(keys.Bootstrap, "never"),
		ParkLimit: DefaultParkLimit, ParkWindow: time.Hour,
		KeepBytes: DefaultKeepBytes, KeepTime: DefaultKeepTime, KeepBehind: DefaultKeepBehind, text: text,
	}
	set(&d.ParkLimit, keys.ParkLimit)
	set(&d.KeepBytes, keys.KeepBytes)
	set(&d.ParkWindow, (*time.Duration)(keys.ParkWindow))
	set(&d.KeepTime, (*time.Duration)(keys.KeepTime))
	set(&d.KeepBehind, (*time.Duration)(keys.KeepBehind))

	return d, d.check()
}

func set[T any](to, from *T) {
	if from != nil {
		*to = *from
	}
}

// Path returns the path of a file that the definition names.
func (d Definition) Path(name string) string { return under(filepath.Dir(d.File), name) }

// under returns a path that, if it is relative, begins in dir.
func under(dir, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

func (d Definition) check() error {
	oneOf := func(key, value string, of ...string) error {
		if slices.Contains(of, value) {
			return nil
		}
		return d.bad(key, fmt.Sprintf("is %q, want one of %s", value, strings.Join(of, ", ")))
	}

	switch {
	case d.Kind == "":
		return d.bad("kind", "is missing")
	case d.KeepBytes < 0:
		return d.bad("keep_bytes", fmt.Sprintf("is %d, want 0 (no cap) or more", d.KeepBytes))
	case d.ParkLimit < 1:
		return d.bad("park_limit", fmt.Sprintf("is %d, want 1 or more", d.ParkLimit))
	}

	return errors.Join(
		oneOf("on_reject", d.OnReject, "stop", "park"),
		oneOf("on_gap", d.OnGap, "stop", "bootstrap", "wait", "record"),
	)
}

// readDescriptors reads the descriptor files of codecs proto. A file that changes later does not
// change the definition until it is read again.
func (d *Definition) readDescriptors() error {
	d.descriptors = make(map[string][]byte)
	for _, name := range d.Codecs {
		file, ok := codec.File(name)
		if !ok || d.descriptors[file] != nil {
			continue
		}
		text, err := readRegular(d.Path(file), maxDescriptors)
		if err != nil {
			return fmt.Errorf("%w: %w: %w", d.bad("codecs", "names a file"), errDescriptors, err)
		}
		d.descriptors[file] = text
	}
	return nil
}

// errDescriptors means that a file of descriptors cannot be read.
var errDescriptors = errors.New("the descriptors cannot be read")

// codecList returns the codecs of the definition.
func (d Definition) codecList() (codec.List, error) { return codec.Parse(d.Codecs, d.descriptors) }

// bad returns the error of a key's value, with its place in the file.
func (d Definition) bad(key, what string) error {
	at := d.File
	if line, col := d.find(key); line > 0 {
		at = fmt.Sprintf("%s:%d:%d", d.File, line, col)
	}
	return fmt.Errorf("%w: %s: %s %s", ErrDefinition, at, key, what)
}

// Bad returns the error of a key of the sink's kind, with the key's place in the file.
func (d Definition) Bad(key, what string) error { return Fail(Misconfigured, d.bad(key, what)) }

// find returns the place of a key of the file, or 0.
func (d Definition) find(key string) (line, column int) {
	for _, k := range unknownKeys(d.text, &struct{}{}) {
		if strings.Join(k.Key(), ".") == key {
			return k.Position()
		}
	}
	return 0, 0
}

// Decode reads the keys of the sink's kind into v, a pointer to a struct with toml tags. A key that
// is neither v's nor every kind's is refused. So is a key K where v has K_file, because it is a
// secret, which must not stand in a definition.
func (d Definition) Decode(v any) error {
	if err := toml.Unmarshal(d.text, v); err != nil {
		return Fail(Misconfigured, tomlError(d.File, err))
	}

	common, own := tags(fileKeys{}), tags(v)
	for _, k := range unknownKeys(d.text, v) {
		key := k.Key()[0]
		if slices.Contains(common, key) {
			continue
		}

		line, col := k.Position()
		text := fmt.Sprintf("unknown key %q", strings.Join(k.Key(), "."))
		if slices.Contains(own, key+"_file") {
			text = fmt.Sprintf("%s is a secret: give it as %s_file or %s_env", key, key, key)
		}

		return Fail(Misconfigured, fmt.Errorf("%w: %s:%d:%d: %s", ErrDefinition, d.File, line, col, text))
	}

	return nil
}

// tags returns the toml names of a struct's fields.
func tags(v any) (names []string) {
	t := reflect.TypeOf(v)
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("toml"), ",")
		names = append(names, name)
	}
	return names
}

// unknownKeys returns the keys of text that v has no field for.
func unknownKeys(text []byte, v any) []toml.DecodeError {
	fresh := reflect.New(reflect.TypeOf(v).Elem()).Interface()
	missing := new(toml.StrictMissingError)
	if err := toml.NewDecoder(bytes.NewReader(text)).DisallowUnknownFields().Decode(fresh); !errors.As(err, &missing) {
		return nil
	}
	return missing.Errors
}

func tomlError(file string, err error) error {
	at := new(toml.DecodeError)
	if errors.As(err, &at) {
		line, col := at.Position()
		return fmt.Errorf("%w: %s:%d:%d: %s", ErrDefinition, file, line, col, at.Error())
	}
	return fmt.Errorf("%w: %s: %w", ErrDefinition, file, err)
}

// CheckName returns an error if s cannot name a slot: a letter, then at most 62 letters, digits,
// underscores and hyphens, in lower case.
func CheckName(s string) error {
	ok := len(s) > 0 && len(s) <= 63 && s != "gates"
	for i, r := range s {
		letter := r >= 'a' && r <= 'z'
		ok = ok && (letter || i > 0 && (r >= '0' && r <= '9' || r == '_' || r == '-'))
	}
	if !ok {
		return fmt.Errorf("%.80q is no name of a stream: want a letter, then at most 62 letters, digits, '_' and "+
			"'-', in lower case, and not gates", s)
	}
	return nil
}

// Hash returns the hash of what the definition makes of the events, which a sink stores and which
// another node must share to continue the sink: kind, filter, codecs and projection with their
// versions, and no address or credential. projection is the kind's own part of it.
func (d Definition) Hash(f Factory) string {
	h := sha256.New()
	item := func(name string, values ...string) {
		fmt.Fprintf(h, "%s %d\n", name, len(values))
		for _, v := range values {
			fmt.Fprintf(h, "%d %s\n", len(v), v)
		}
	}

	item("envelope", fmt.Sprint(Version))
	item("kind", d.Kind, f.Version)
	item("filter", d.Filter...)
	for _, prefix := range slices.Sorted(maps.Keys(d.Codecs)) {
		item("codec", prefix, d.Codecs[prefix])
		if file, ok := codec.File(d.Codecs[prefix]); ok {
			item("descriptors", string(d.descriptors[file]))
		}
	}
	item("bodies", fmt.Sprint(d.Bodies))
	item("before", fmt.Sprint(d.Before))
	item("log", fmt.Sprint(d.Log))
	if f.Projection != nil {
		item("projection", f.Projection(d))
	}

	return hex.EncodeToString(h.Sum(nil)[:16])
}

// Secrets reads the secrets that a definition names. A secret stands in a file or in an environment
// variable, never in the definition. It is read each time, so that a new password needs no restart.
// Secrets is safe for concurrent use.
type Secrets struct {
	dir   string
	files *readFiles
}

// readFiles are the files that were read, and when they had changed last.
type readFiles struct {
	mu   sync.Mutex
	seen map[string]time.Time
}

// NewSecrets returns the secrets whose relative files are in dir.
func NewSecrets(dir string) Secrets {
	return Secrets{dir: dir, files: &readFiles{seen: make(map[string]time.Time)}}
}

// Read returns the secret called name, which a definition gives as name_file or name_env: file and
// env are their values, of which exactly one is not empty. It removes space at the end. An error
// has the class Misconfigured, and never contains the secret.
func (s Secrets) Read(name, file, env string) (string, error) {
	switch {
	case file != "" && env != "":
		return "", Fail(Misconfigured, fmt.Errorf("both %s_file and %s_env are set, want one", name, name))
	case file != "":
		return s.readFile(name, file)
	case env == "":
		return "", Fail(Misconfigured, fmt.Errorf("neither %s_file nor %s_env is set", name, name))
	}

	v, ok := os.LookupEnv(env)
	if !ok {
		return "", Fail(Misconfigured, fmt.Errorf("%s_env: the environment has no %s", name, env))
	}
	return strings.TrimRight(v, " \t\r\n"), nil
}

func (s Secrets) readFile(name, file string) (string, error) {
	file = under(s.dir, file)
	b, err := readRegular(file, maxText)
	if err != nil {
		return "", Fail(Misconfigured, fmt.Errorf("%s_file: %w", name, err))
	}

	if s.files != nil {
		s.files.mu.Lock()
		defer s.files.mu.Unlock()
		s.files.seen[file] = modified(file)
	}

	return strings.TrimRight(string(b), " \t\r\n"), nil
}

// Changed reports whether a file that was read has changed since.
func (s Secrets) Changed() bool {
	if s.files == nil {
		return false
	}

	s.files.mu.Lock()
	defer s.files.mu.Unlock()
	for file, at := range s.files.seen {
		if !modified(file).Equal(at) {
			return true
		}
	}
	return false
}

func modified(file string) time.Time {
	info, err := os.Stat(file)
	if err != nil {
		return time.Time{}
	}
	return info.ModTime()
}

// TLS returns the configuration of a client by the files that the definition names under the keys
// ca_file, cert_file and key_file. An empty caFile stands for the system's authorities, an empty
// certFile for no certificate of the client. What cannot be used is Misconfigured.
func (d Definition) TLS(caFile, certFile, keyFile string) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}

	if caFile != "" {
		pem, err := readRegular(d.Path(caFile), maxText)
		if err != nil {
			return nil, Fail(Misconfigured, fmt.Errorf("ca_file: %w", err))
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, Fail(Misconfigured, fmt.Errorf("ca_file: %s has no certificate in PEM", caFile))
		}
	}

	if certFile != "" {
		cert, err := readRegular(d.Path(certFile), maxText)
		if err != nil {
			return nil, Fail(Misconfigured, fmt.Errorf("cert_file: %w", err))
		}
		key, err := readRegular(d.Path(keyFile), maxText)
		if err != nil {
			return nil, Fail(Misconfigured, fmt.Errorf("key_file: %w", err))
		}
		pair, err := tls.X509KeyPair(cert, key)
		if err != nil {
			return nil, Fail(Misconfigured, fmt.Errorf("cert_file and key_file: %w", err))
		}
		config.Certificates = []tls.Certificate{pair}
	}

	return config, nil
}

const (
	// maxText bounds a definition, a secret and a certificate.
	maxText = 1 << 20

	// maxDescriptors bounds a file of descriptors.
	maxDescriptors = 16 << 20
)

// readRegular reads a regular file of at most so many bytes that an operator has named. A device
// may have no end, and the opening of a pipe may not return.
func readRegular(path string, most int64) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no regular file (%s)", path, info.Mode().Type())
	}

	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > most {
		return nil, fmt.Errorf("%s has more than %d bytes", path, most)
	}
	return b, nil
}
