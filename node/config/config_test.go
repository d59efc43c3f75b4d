package config

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/consensus"
	"github.com/coppice-go/coppice/engines/consensus/comet"
	"github.com/coppice-go/coppice/engines/consensus/solo"
	"github.com/coppice-go/coppice/node/exit"
	"github.com/coppice-go/coppice/node/plan"
)

func TestMain(m *testing.M) {
	consensus.Register(solo.Kind{}, comet.Kind{}) // as the program does: the table describes them
	os.Exit(m.Run())
}

var update = flag.Bool("update", false, "write docs/configuration.md anew")

func writeConfig(t *testing.T, text string) string {
	t.Helper()
	home := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(home, "coppice.toml"), []byte(text), 0o644))
	return home
}

// Each layer overrides the layers before it, and each value in force has its origin.
func TestLayers(t *testing.T) {
	home := writeConfig(t, `listen = "127.0.0.1:1"
profile = "strict"
[pool]
max_txs = 11
max_bytes = 2_000_000
`)

	s, err := Resolve(home, Sources{
		Environ: []string{"COPPICE_POOL_MAX_TXS=12", "COPPICE_LISTEN=127.0.0.1:2", "COPPICE_CONSENSUS_EMPTY_EVERY=1m",
			"COPPICE_HOME=/x", "HOME=/y"},
		Set: []Assignment{{Key: "listen", Value: "127.0.0.1:3", Flag: "--listen"},
			{Key: "log.segment_bytes", Value: "1048576", Flag: "--set"}},
	})
	require.NoError(t, err)
	want := Defaults()
	want.Profile, want.Listen = plan.Strict, "127.0.0.1:3"
	want.Pool.MaxTxs, want.Pool.MaxBytes, want.Log.SegmentBytes = 12, 2_000_000, 1<<20
	want.Consensus.EmptyEvery = Duration(time.Minute)
	require.Equal(t, want, s.Config)

	file := filepath.Join(home, "coppice.toml")
	for key, from := range map[string]string{
		"profile": file + ":2:11", "listen": "flag --listen", "pool.max_txs": "environment COPPICE_POOL_MAX_TXS",
		"pool.max_bytes":    file + ":5:13",
		"log.segment_bytes": "flag --set", "consensus.empty_every": "environment COPPICE_CONSENSUS_EMPTY_EVERY",
		"pool.max_eager": "default",
	} {
		require.Equal(t, from, s.Origin(key).String(), key)
	}
}

// I10: bad input gets a clear error that names what is wrong, where, and what was expected. One
// error has all problems.
func TestBadConfigurationIsNamed(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"unknown key", "lisen = 1", `coppice.toml:1:1: unknown key "lisen"; did you mean listen?`},
		{"key outside its table", "\nsegment_bytes = 1",
			`coppice.toml:2:1: unknown key "segment_bytes"; did you mean log.segment_bytes?`},
		{"misspelled in a table", "[log]\nsegment_byte = 1",
			`coppice.toml:2:1: unknown key "log.segment_byte"; did you mean log.segment_bytes?`},
		{"unknown table", "[loq]\nsegment_bytes = 1", `coppice.toml:1:2: unknown table "loq"; did you mean log?`},
		{"table of a value", "[listen]\na = 1", `coppice.toml:1:2: unknown table "listen"`},
		{"inline unknown", "x = {a = 1}", `coppice.toml:1:6: unknown key "x.a"`},
		{"list of tables", "[[log]]", `coppice.toml:1:3: [[log]] is a list of tables, want [log]`},
		{"type", "listen = 7070", `coppice.toml:1:10: listen: found the integer 7070, want a string: host:port`},
		{"type of number", "[pool]\nmax_txs = \"many\"",
			`coppice.toml:2:11: pool.max_txs: found the string "many", want a whole number from 1 to 10000000`},
		{"float", "[pool]\nmax_txs = 1.5", `pool.max_txs: found the float 1.5, want a whole number`},
		{"boolean", "insecure = \"yes\"", `coppice.toml:1:12: insecure: found the string "yes", want true or false`},
		{"list", "listen = []", `coppice.toml:1:1: listen: found a list, want a string`},
		{"duration", "[consensus]\nempty_every = \"soon\"",
			`coppice.toml:2:15: consensus.empty_every: "soon": want a duration from 0s to 24h0m0s`},
		{"bounds", "[pool]\n\nmax_txs = 0",
			`coppice.toml:3:11: pool.max_txs: 0: want a whole number from 1 to 10000000`},
		{"hexadecimal", "[pool]\nmax_txs = 0x10", `pool.max_txs: "0x10": want a whole number`},
		{"profile", "profile = \"stict\"",
			`coppice.toml:1:11: profile: "stict": want one of default, strict, chaos; did you mean strict?`},
		{"port", "listen = \"127.0.0.1:99999\"",
			`coppice.toml:1:10: listen: "127.0.0.1:99999": port "99999", want a number from 0 to 65535`},
		{"port name", "listen = \"127.0.0.1:http\"", `port "http", want a number`},
		{"no port", "listen = \"127.0.0.1\"", `listen: "127.0.0.1": want host:port`},
		{"public", "listen = \"0.0.0.0:1\"",
			`listen: "0.0.0.0:1" is not a loopback address: want a certificate in tls.cert and tls.key, or insecure = true`},
		{"half a certificate", "[tls]\ncert = \"a\"", `tls.key: empty, but tls.cert is not`},
		{"twice", "listen = \"a:1\"\nlisten = \"b:1\"", `coppice.toml:2:1:`},
		{"syntax", "listen \"a\"", `coppice.toml:1:`},
		{"two at once", "lisen = 1\n[pool]\nmax_txs = 0", "2 problems:\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			home := writeConfig(t, tt.text)
			_, err := Load(home)
			require.ErrorIs(t, err, exit.ErrConfig)
			require.ErrorContains(t, err, tt.want)
			_, again := CheckFile(filepath.Join(home, "coppice.toml"))
			require.EqualError(t, again, err.Error())
		})
	}
}

func TestBadEnvironmentAndFlagsAreNamed(t *testing.T) {
	home := writeConfig(t, "")
	for _, tt := range []struct {
		name, env, set, want string
	}{
		{"value", "COPPICE_LISTEN=here", "", `environment COPPICE_LISTEN: listen: "here": want host:port`},
		{"empty", "COPPICE_POOL_MAX_TXS=", "",
			`environment COPPICE_POOL_MAX_TXS: pool.max_txs: "": want a whole number`},
		{"section", "COPPICE_POOL_SIZE=1", "", `environment COPPICE_POOL_SIZE: no key has this variable`},
		{"near", "COPPICE_PROFIL=strict", "",
			`environment COPPICE_PROFIL: no key has this variable; did you mean COPPICE_PROFILE?`},
		{"boolean", "COPPICE_INSECURE=1", "", `environment COPPICE_INSECURE: insecure: "1": want true or false`},
		{"flag", "", "pool.max_txs=0", `flag --set: pool.max_txs: 0: want a whole number from 1`},
		{"flag's key", "", "pool.max_tx=1", `flag --set: unknown key "pool.max_tx"; did you mean pool.max_txs?`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			src := Sources{Environ: []string{tt.env}}
			if key, value, ok := strings.Cut(tt.set, "="); ok {
				src.Set = []Assignment{{Key: key, Value: value, Flag: "--set"}}
			}
			_, err := Resolve(home, src)
			require.ErrorIs(t, err, exit.ErrConfig)
			require.ErrorContains(t, err, tt.want)
		})
	}
}

// Container platforms make up variables from the name of a service, and a service may be called
// coppice.
func TestForeignVariablesAreNoKeys(t *testing.T) {
	_, err := Resolve(writeConfig(t, ""), Sources{Environ: []string{
		"COPPICE_PORT=tcp://10.0.0.1:7070", "COPPICE_SERVICE_HOST=10.0.0.1", "COPPICE_SERVICE_PORT=7070",
		"COPPICE_PORT_7070_TCP_ADDR=10.0.0.1",
		"COPPICE_SOAK=1", "COPPICE_REQUIRE=erlang", "COPPICE_TOKEN=secret", "COPPICE_HOME=/var/lib/coppice",
		"malformed",
	}})
	require.NoError(t, err)
}

// Every field has one row in the table, and every row is complete, because documentation,
// validation and names come from it.
func TestTheTableHoldsEveryField(t *testing.T) {
	fields := map[string]int{}
	var walk func(prefix string, at reflect.Type)
	walk = func(prefix string, at reflect.Type) {
		for f := range at.Fields() {
			if f.Type.Kind() == reflect.Struct {
				walk(prefix+f.Name+".", f.Type)
				continue
			}
			fields[prefix+f.Name]++
		}
	}
	walk("", reflect.TypeFor[Config]())
	normal := func(s string) string { return strings.ToLower(strings.ReplaceAll(s, "_", "")) }
	want := map[string]bool{}
	for f := range fields {
		want[normal(f)] = true
	}

	section, closed := "", map[string]bool{}

	for _, k := range Keys() {
		require.True(t, want[normal(k.Name)], "%s: no such field", k.Name)
		delete(want, normal(k.Name))
		require.NotEmpty(t, k.Doc, k.Name)
		require.True(t, strings.HasSuffix(k.Doc, "."), "%s: the doc is whole sentences", k.Name)
		if k.Section() != section {
			require.False(t, closed[k.Section()], "%s: keys of a section stand together", k.Name)
			closed[section], section = true, k.Section()
		}
	}

	require.Empty(t, want, "fields without a row in the table of keys")
	require.NoError(t, Defaults().Validate())
}

// The file that init writes sets the values that it was made from, and nothing else.
func TestTheCommentedFileIsItsConfiguration(t *testing.T) {
	c := Defaults()
	c.Listen, c.Log.SegmentBytes, c.Consensus.EmptyEvery, c.Insecure = "[::1]:0", 1<<20, Duration(time.Second), true
	text := c.Commented()
	got, err := Load(writeConfig(t, text))
	require.NoError(t, err)
	require.Equal(t, c, got)
	for _, k := range Keys() {
		require.Contains(t, text, k.last()+" = "+k.TOML(c))
	}

	// Each comment of a key is a valid setting: without the comment marks the file means the same.
	var all strings.Builder

	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "#") && !strings.HasPrefix(line, "# ") {
			line = line[1:]
		}
		all.WriteString(line)
	}

	got, err = Load(writeConfig(t, all.String()))
	require.NoError(t, err)
	require.Equal(t, c, got)
}

const (
	docBegin = "<!-- keys: written by go test ./node/config -run Documented -update -->\n"
	docEnd   = "<!-- end of keys -->\n"
)

// keysDoc returns the part of docs/configuration.md that is written from the table of keys.
func keysDoc() string {
	var b strings.Builder
	for _, k := range Keys() {
		value := k.TOML(Defaults())
		fmt.Fprintf(&b, "### `%s`\n\n%s\n\n", k.Name, k.Doc)
		fmt.Fprintf(&b, "| type | default | wants | environment | flag of `start` | while running "+
			"|\n|---|---|---|---|---|---|\n")
		flag, live := "`--set "+k.Name+"=…`", "at the next start"
		if k.Flag != "" {
			flag = "`--" + k.Flag + "`"
		}
		if k.Live {
			live = "on SIGHUP"
		}

		unit := ""
		if k.Unit != "" && k.Type() == "integer" {
			unit = ", in " + k.Unit
		}

		fmt.Fprintf(&b, "| %s%s | `%s` | %s | `%s` | %s | %s |\n\n", k.Type(), unit, value, k.Want(),
			k.Env(), flag, live)
	}

	return b.String()
}

// docs/configuration.md describes the keys as the table does.
func TestKeysAreDocumented(t *testing.T) {
	const path = "../../docs/configuration.md"
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	before, rest, ok := strings.Cut(string(text), docBegin)
	require.True(t, ok, "%s has no line %q", path, docBegin)
	_, after, ok := strings.Cut(rest, docEnd)
	require.True(t, ok, "%s has no line %q", path, docEnd)
	want := before + docBegin + "\n" + keysDoc() + docEnd + after

	if *update {
		require.NoError(t, os.WriteFile(path, []byte(want), 0o644))
		return
	}

	require.Equal(t, want, string(text), "run: go test ./node/config -run Documented -update")
}
