package dump

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"time"

	"github.com/coppice-go/coppice/node/inspect"
)

// Part is a part of the report.
type Part struct {
	Name string // of its file in the archive

	// Get returns the part. Its error says why the part is missing, or, if it is an ErrLeftOut, why
	// there is nothing that could be missing.
	Get func(ctx context.Context) ([]byte, error)
}

// ErrLeftOut marks the error of a part that does not apply, such as the log file of a node that
// writes none. An archive without it is complete.
var ErrLeftOut = errors.New("left out")

// LeftOut returns an ErrLeftOut with a reason.
func LeftOut(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrLeftOut, fmt.Errorf(format, args...))
}

// ErrCut is returned, with the beginning or the end of a part, if the part is not whole.
var ErrCut = errors.New("cut")

// Options describe the archive.
type Options struct {
	Name    string        // of the directory in the archive that holds the parts
	About   string        // what the archive is of, for the MANIFEST
	Now     time.Time     // the time of the files
	Each    time.Duration // how long the archive waits for a part
	Secrets []string      // taken out wherever they stand
	Begin   func(part string)
}

// Entry is a line of the MANIFEST.
type Entry struct {
	Name    string `json:"name"`
	Bytes   int    `json:"bytes"`
	Missing string `json:"missing,omitempty"`  // why
	LeftOut string `json:"left_out,omitempty"` // why
	Cut     string `json:"cut,omitempty"`      // what is not in the file
}

// Manifest says what there is of each part.
type Manifest []Entry

// Missing returns the names of the parts that are missing or cut short.
func (m Manifest) Missing() (names []string) {
	for _, e := range m {
		if e.Missing != "" {
			names = append(names, e.Name)
		}
	}
	return names
}

// manifestName is the name of the last file of the archive.
const manifestName = "MANIFEST"

// Write writes an archive with all parts to w, one after the other. It returns an error if w fails
// or ctx ends.
func Write(ctx context.Context, w io.Writer, parts []Part, o Options) (Manifest, error) {
	zip := gzip.NewWriter(w)
	files := tar.NewWriter(zip)

	var m Manifest

	for _, p := range parts {
		if o.Begin != nil {
			o.Begin(p.Name)
		}

		data, err := get(ctx, p, o.Each)
		if ctx.Err() != nil {
			return m, context.Cause(ctx)
		}

		e := Entry{Name: p.Name}
		switch {
		case err == nil:
		case errors.Is(err, ErrCut):
			e.Cut = reason(err, ErrCut, o.Secrets)
		case errors.Is(err, ErrLeftOut):
			e.LeftOut, data = reason(err, ErrLeftOut, o.Secrets), nil
		default:
			e.Missing, data = reason(err, nil, o.Secrets), nil
		}

		if e.Missing == "" && e.LeftOut == "" {
			data = redact(p.Name, data, o.Secrets)
			e.Bytes = len(data)
			if err := add(files, o, p.Name, data); err != nil {
				return m, err
			}
		}

		m = append(m, e)
	}

	if err := add(files, o, manifestName, m.text(o)); err != nil {
		return m, err
	}

	return m, errors.Join(files.Close(), zip.Close())
}

// get gets a part within a time. A part that does not end by then is given up.
func get(ctx context.Context, p Part, each time.Duration) ([]byte, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, each, fmt.Errorf("no answer within %v", each))
	defer cancel()

	data, err := p.Get(ctx)
	if err != nil && ctx.Err() != nil && !errors.Is(err, context.Cause(ctx)) {
		return nil, fmt.Errorf("%w (%w)", context.Cause(ctx), err)
	}
	return data, err
}

// reason returns the text of err in one line, without the text of the mark that it wraps.
func reason(err, mark error, secrets []string) string {
	text := err.Error()
	if mark != nil {
		text = strings.TrimPrefix(text, mark.Error()+": ")
	}
	return strings.Join(strings.Fields(string(inspect.Redact([]byte(text), secrets...))), " ")
}

// redact takes the secrets out of a part. A profile is compressed, and has no text but the names of
// functions and files.
func redact(name string, data []byte, secrets []string) []byte {
	if strings.HasSuffix(name, ".pb.gz") {
		return data
	}
	return inspect.Redact(data, secrets...)
}

// add writes a file to the archive.
func add(files *tar.Writer, o Options, name string, data []byte) error {
	if err := files.WriteHeader(&tar.Header{
		Typeflag: tar.TypeReg, Name: path.Join(o.Name, name), Size: int64(len(data)), Mode: 0o600, ModTime: o.Now,
		Format: tar.FormatPAX,
	}); err != nil {
		return err
	}
	_, err := files.Write(data)
	return err
}

// text returns the MANIFEST.
func (m Manifest) text(o Options) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s, at %s\n", o.About, o.Now.UTC().Format(time.RFC3339))
	fmt.Fprintf(&b, "%d parts, of which %d are missing. Tokens, keys, passwords and the bodies of transactions are "+
		"left out.\n\n", len(m), len(m.Missing()))

	for _, e := range m {
		fmt.Fprintf(&b, "%s\t%s\n", e.Name, e.state())
	}

	return b.Bytes()
}

// state says what there is of a part.
func (e Entry) state() string {
	switch {
	case e.Missing != "":
		return "missing: " + e.Missing
	case e.LeftOut != "":
		return "left out: " + e.LeftOut
	case e.Cut != "":
		return fmt.Sprintf("%d bytes, cut: %s", e.Bytes, e.Cut)
	}
	return fmt.Sprintf("%d bytes", e.Bytes)
}
