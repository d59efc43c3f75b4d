package home

import (
	"bufio"
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// pairsOf returns what readPairs reads of data, and the bytes after it.
func pairsOf(data []byte) (pairs map[string]string, rest int, err error) {
	pairs = make(map[string]string)
	r := bufio.NewReader(bytes.NewReader(data))
	err = readPairs(r, func(key, value []byte) error {
		pairs[string(key)] = string(value)
		return nil
	})
	return pairs, r.Buffered(), err
}

// A copy of a database is read as it was written. One that was cut at any byte, or of which any bit
// was flipped, is refused.
func TestACopyOfADatabaseIsWholeOrRefused(t *testing.T) {
	want := map[string]string{"empty": "", "long": strings.Repeat("v", 300), "\x00": "\x00\xff"}
	var out bytes.Buffer
	w := newPairWriter(&out)
	for key, value := range want {
		require.NoError(t, w.put([]byte(key), []byte(value)))
	}
	require.NoError(t, w.end())
	data := out.Bytes()

	have, rest, err := pairsOf(append(slices.Clone(data), "another"...))
	require.NoError(t, err)
	require.Equal(t, want, have)
	require.Equal(t, len("another"), rest, "copies follow each other")

	for n := range len(data) {
		_, _, err := pairsOf(data[:n])
		require.ErrorIs(t, err, errPairs, "cut after %d bytes", n)
	}
	for bit := range 8 * len(data) {
		flipped := slices.Clone(data)
		flipped[bit/8] ^= 1 << (bit % 8)
		_, _, err := pairsOf(flipped)
		require.Error(t, err, "bit %d of byte %d", bit%8, bit/8)
	}

	_, _, err = pairsOf([]byte(pairsMagic + "\xff\xff\xff\xff\x0f"))
	require.ErrorIs(t, err, errPairs, "the length of a key that no database has")
}

// The first line of a stream names databases, and never a path.
func TestACopyNamesDatabases(t *testing.T) {
	read := func(head string) error {
		_, err := ReadCopyHead(bufio.NewReader(strings.NewReader(head)))
		return err
	}
	require.NoError(t, read(`{"blocks":3,"databases":["state"]}`+"\n"))
	for _, bad := range []string{"", "{}", "no JSON\n"} {
		require.Error(t, read(bad), bad)
	}
	for _, name := range []string{"", "..", "a/b", `a\\b`} {
		require.Error(t, read(fmt.Sprintf(`{"databases":["%s"]}`+"\n", name)), name)
	}
}
