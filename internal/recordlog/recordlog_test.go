package recordlog

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// chunkOf returns the chunk of a whole record.
func chunkOf(text string) []byte {
	chunk := append([]byte{0, 0, 0, 0, 0, 0, 1}, text...)
	binary.LittleEndian.PutUint16(chunk[4:], uint16(len(text)))
	binary.LittleEndian.PutUint32(chunk, checksum(chunk[6:]))
	return chunk
}

// A journal that was cut while it was written is whole, at whatever byte it was cut.
func TestATornJournalIsNoDamage(t *testing.T) {
	var journal []byte
	for i := range 40 {
		journal = append(journal, chunkOf(strings.Repeat(fmt.Sprint(i), 300))...)
	}

	journal = journal[:journalBlock/2]
	for n := range journal {
		require.NoError(t, Check(journal[:n]), "cut at byte %d", n)
	}

	journal[100] ^= 1
	require.ErrorContains(t, Check(journal), "the chunk at byte 0")
	journal[100] ^= 1
	journal[5] ^= 0x40 // its length now reaches beyond the end, as that of a torn one
	require.ErrorContains(t, Check(journal), "the chunk at byte 0")

	last := journal[:journalHeader+300]
	last[5] ^= 0x40 // of the only chunk: back
	require.NoError(t, Check(last))
	last[4] ^= 0x80 // and its length again, with nothing after it
	require.ErrorContains(t, Check(last), "the chunk at byte 0")
}

// What a power failure may have torn since the last synced record is no damage; what lies before
// one is.
func TestOnlyWhatWasSyncedCanBeDamaged(t *testing.T) {
	var whole []byte
	at := map[string]int{}
	for _, text := range []string{"a mark", "b", "c mark", "d"} { // they fill a block, but for some padding
		at[text[:1]] = len(whole)
		whole = append(whole, chunkOf(text+strings.Repeat(".", 8000))...)
	}
	at["e"] = journalBlock
	whole = append(whole, make([]byte, journalBlock-len(whole))...)
	whole = append(whole, chunkOf("e"+strings.Repeat(".", 8000))...)
	require.NoError(t, Check(whole))

	for name, begin := range at {
		for _, byteOf := range []int{0, 4, 5, 6, journalHeader, 500} {
			journal := bytes.Clone(whole)
			journal[begin+byteOf] ^= 0x40
			err := CheckSynced(journal, []byte("mark"))
			if name < "c" {
				require.ErrorContains(t, err, fmt.Sprintf("the chunk at byte %d", begin), "%s, byte %d", name, byteOf)
			} else {
				require.NoError(t, err, "%s, byte %d: nothing after it was synced", name, byteOf)
			}
		}
	}
}
