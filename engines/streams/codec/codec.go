// Package codec makes JSON of the values of keys, by codecs that an operator names per key prefix.
package codec

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// codec makes JSON of a value, and refuses a value that it cannot read. nil JSON means that there
// is nothing besides the bytes.
type codec func(value []byte) (jsonText []byte, err error)

// codecs are the codecs by name, besides proto.
var codecs = map[string]codec{
	"bytes":   func([]byte) ([]byte, error) { return nil, nil },
	"utf8":    decodeUTF8,
	"json":    decodeJSON,
	"decimal": decodeDecimal,
	"u64be":   decodeU64,
}

func decodeUTF8(v []byte) ([]byte, error) {
	if !utf8.Valid(v) {
		return nil, errors.New("not UTF-8")
	}
	return AppendText(nil, string(v)), nil
}

func decodeJSON(v []byte) ([]byte, error) {
	if !utf8.Valid(v) {
		return nil, errors.New("not UTF-8")
	}
	var b bytes.Buffer
	if err := json.Compact(&b, v); err != nil {
		return nil, fmt.Errorf("not JSON: %w", err)
	}
	return b.Bytes(), nil
}

// decodeDecimal reads an integer in decimal digits, of any length. JSON has it as a number.
func decodeDecimal(v []byte) ([]byte, error) {
	digits := bytes.TrimPrefix(v, []byte("-"))
	ok := len(digits) > 0 && (digits[0] != '0' || len(digits) == 1)
	for _, c := range digits {
		ok = ok && c >= '0' && c <= '9'
	}
	if !ok || string(v) == "-0" {
		return nil, fmt.Errorf("not a decimal number: %.40q", v)
	}
	return bytes.Clone(v), nil
}

func decodeU64(v []byte) ([]byte, error) {
	if len(v) != 8 {
		return nil, fmt.Errorf("not a number of 8 bytes: it has %d", len(v))
	}
	return strconv.AppendUint(nil, binary.BigEndian.Uint64(v), 10), nil
}

// List are the codecs of a definition, the longest prefix first. It is safe for concurrent use.
type List []struct {
	prefix string
	decode codec
}

// Parse returns the codecs by the names that a definition gives for key prefixes. files are the
// descriptor files of codecs proto, by the name in the definition (File).
func Parse(names map[string]string, files map[string][]byte) (list List, err error) {
	for prefix, name := range names {
		c, ok := codecs[name]
		if file, message, isProto := cutProto(name); isProto {
			ok = true
			if c, err = newProto(files[file], message); err != nil {
				return nil, fmt.Errorf("codec of %q: %s: %w", prefix, file, err)
			}
		}
		if !ok {
			return nil, fmt.Errorf("codec of %q is %q, want one of bytes, utf8, json, decimal, u64be, "+
				"proto:FILE#MESSAGE", prefix, name)
		}
		list = append(list, struct {
			prefix string
			decode codec
		}{prefix, c})
	}

	slices.SortFunc(list, func(a, b struct {
		prefix string
		decode codec
	}) int {
		if d := len(b.prefix) - len(a.prefix); d != 0 {
			return d
		}
		return strings.Compare(a.prefix, b.prefix)
	})

	return list, nil
}

// Decode returns what the codec of a key's prefix makes of a value, in JSON; nil: nothing besides
// the bytes. An error means that the codec cannot read the value, however often it tries.
func (l List) Decode(key, value []byte) ([]byte, error) {
	for _, c := range l {
		if bytes.HasPrefix(key, []byte(c.prefix)) {
			return c.decode(value)
		}
	}
	return nil, nil
}
