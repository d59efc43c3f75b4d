package recordlog

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A journal that was cut while it was written is whole, at whatever byte it was cut.
func TestATornJournalIsNoDamage(t *testing.T) {
	var journal []byte
	for i := range 40 {
		chunk := append([]byte{0, 0, 0, 0, 0, 0, 1}, strings.Repeat(fmt.Sprint(i), 300)...)
		n := len(chunk) - journalHeader
		chunk[4], chunk[5] = byte(n), byte(n>>8)
		sum := checksum(chunk[6:])
		chunk[0], chunk[1], chunk[2], chunk[3] = byte(sum), byte(sum>>8), byte(sum>>16), byte(sum>>24)
		journal = append(journal, chunk...)
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
