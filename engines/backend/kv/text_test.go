package kv_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/backend/kv"
)

func TestParseText(t *testing.T) {
	k := []byte("k")
	ops, err := kv.ParseText("# a comment\n\n put\tk  v \r\nput k \"a b\"\nput k `{\"a\": \"\\n\"}`\nput k \"\"\nput " +
		"#k don't\\n\n" +
		"delete k\nappend k é\ncas k equals x y\ncas k absent y\nadd k -3\nrequire k equals x\nrequire k " +
		"exists\nrequire k absent\nread \"\\xff\\n\"")
	require.NoError(t, err)
	require.Equal(t, []kv.Op{
		kv.Put(k, []byte("v")), kv.Put(k, []byte("a b")), kv.Put(k, []byte(`{"a": "\n"}`)), kv.Put(k, []byte("")),
		kv.Put([]byte("#k"), []byte(`don't\n`)),
		kv.Delete(k), kv.Append(k, []byte("é")), kv.CAS(k, []byte("x"), []byte("y")), kv.CASAbsent(k, []byte("y")),
		kv.Add(k, -3),
		kv.Require(k, []byte("x")), kv.RequireExists(k), kv.RequireAbsent(k), kv.Read([]byte("\xff\n")),
	}, ops)

	ops, err = kv.ParseText(" \n# nothing\n")
	require.NoError(t, err)
	require.Empty(t, ops)
}

func TestParseTextNamesLineAndColumn(t *testing.T) {
	for text, says := range map[string]string{
		"frobnicate k":                          `line 1, column 1: unexpected "frobnicate", want put or delete or append or cas or add or require or read`,
		"put k v\n\nput k":                      `line 3, column 6: the operation ends here, want VALUE`,
		"put":                                   `line 1, column 4: the operation ends here, want KEY`,
		"  put k a b":                           `line 1, column 11: unexpected "b", want the end`,
		"cas k x y":                             `line 1, column 7: unexpected "x", want equals or absent`,
		"require é maybe":                       `line 1, column 11: unexpected "maybe", want equals or exists or absent`,
		"require k exists v":                    `line 1, column 18: unexpected "v", want the end`,
		"add n 1.5":                             `line 1, column 7: DELTA is "1.5", want a whole number of int64`,
		"add n 9999999999999999999":             `line 1, column 7: DELTA is "9999999999999999999"`,
		`put "" v`:                              `line 1, column 5: the key is empty`,
		`append k ""`:                           `line 1, column 10: the member is empty`,
		`append k "a\nb"`:                       `line 1, column 10: the member has a newline`,
		`put k "open`:                           `line 1, column 7: the quote " is not closed`,
		`put k "\q"`:                            `line 1, column 7: the quote " is not closed, or holds an escape that Go does not have`,
		"put k `open":                           "line 1, column 7: the quote ` is not closed",
		`put k "a"b`:                            `line 1, column 10: want a blank after the closing quote`,
		`put k {"a":1}`:                         `line 1, column 8: a quote inside a word; put the word in double quotes`,
		`put k 'a b'`:                           `line 1, column 7: single quotes do not quote`,
		"put k a\x00b":                          `line 1, column 8: the character U+0000 does not print`,
		"put éé a\xffb":                         `line 1, column 9: a byte that is not UTF-8`,
		"put k a\u00a0b":                        `line 1, column 8: the character U+00A0 does not print`,
		strings.Repeat("read k\n", kv.MaxOps+1): `line 10001, column 1: more than 10000 operations`,
	} {
		_, err := kv.ParseText(text)
		require.ErrorIs(t, err, kv.ErrMalformed, "%.40q", text)
		require.ErrorContains(t, err, says, "%.40q", text)
	}
}

func TestParseOp(t *testing.T) {
	o, err := kv.ParseOp("put", "a key", "a value")
	require.NoError(t, err)
	require.Equal(t, kv.Put([]byte("a key"), []byte("a value")), o)

	for says, words := range map[string][]string{
		"word 1: the operation ends here, want put or delete": nil,
		"word 3: the operation ends here, want VALUE":         {"put", "k"},
		"word 2: the key is empty":                            {"read", ""},
		`word 3: unexpected "v", want the end`:                {"read", "k", "v"},
		`word 1: unexpected "", want put`:                     {""},
	} {
		_, err := kv.ParseOp(words...)
		require.ErrorIs(t, err, kv.ErrMalformed)
		require.ErrorContains(t, err, says)
	}
}

// Usage has each form once, and each form parses as an operation, except for the number.
func TestUsageIsWhatParses(t *testing.T) {
	usage := strings.TrimSuffix(kv.Usage(), "\n")
	require.Len(t, strings.Split(usage, "\n"), 10)
	ops, err := kv.ParseText(strings.ReplaceAll(usage, "DELTA", "1"))
	require.NoError(t, err)
	require.Equal(t, strings.ReplaceAll(usage, "DELTA", "1")+"\n", kv.FormatText(ops...))
}

// FuzzParseText: no text makes the parser panic. Operations that it reads are printed and read back
// the same.
func FuzzParseText(f *testing.F) {
	f.Add(kv.Usage())
	f.Add("put k \"a b\"\n# c\r\nadd n -1\nput k `raw`")
	f.Add("put k \xff\xef\xbf\xbd")
	f.Fuzz(func(t *testing.T, text string) {
		ops, err := kv.ParseText(text)
		if err != nil {
			require.ErrorIs(t, err, kv.ErrMalformed)
			return
		}

		again, err := kv.ParseText(kv.FormatText(ops...))
		require.NoError(t, err)
		require.Equal(t, kv.FormatText(ops...), kv.FormatText(again...))
		require.Len(t, again, len(ops))
	})
}
