package command

import (
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/coppice-go/coppice/engines/chain"
)

// maxInput bounds what a command reads as one transaction: the largest one in hexadecimal, with
// room for blanks.
const maxInput = 2*chain.MaxTxBytes + 1<<20

// openInput opens a file, or standard input for "-".
func openInput(cmd *cobra.Command, name string) (io.ReadCloser, error) {
	if name == "-" {
		return io.NopCloser(cmd.InOrStdin()), nil
	}
	return os.Open(name)
}

// readInput reads all of a file, or of standard input for "-", up to maxInput.
func readInput(cmd *cobra.Command, name string) ([]byte, error) {
	in, err := openInput(cmd, name)
	if err != nil {
		return nil, err
	}
	defer in.Close()

	b, whole, err := readMost(in, maxInput)
	if err == nil && !whole {
		err = fmt.Errorf("%s: more than %d bytes, longer than any transaction", name, maxInput)
	}

	return b, err
}

// maxDocument bounds the files about a network that a command reads: genesis, members, agents.
const maxDocument = 64 << 20

// readDocument reads a file whole, if it has at most most bytes; what is what it should be. A file
// may have no end.
func readDocument(name, what string, most int) ([]byte, error) {
	in, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer in.Close()

	b, whole, err := readMost(in, most)
	if err == nil && !whole {
		has := fmt.Sprintf("more than %d", most)
		if st, err := in.Stat(); err == nil && st.Size() > int64(most) {
			has = fmt.Sprint(st.Size())
		}
		err = fmt.Errorf("%s has %s bytes, want %s of at most %d", name, has, what, most)
	}

	return b, err
}

// readMost reads to the end, or a little more than most bytes; whole is false then.
func readMost(in io.Reader, most int) (b []byte, whole bool, err error) {
	b, err = io.ReadAll(io.LimitReader(in, int64(most)+1))
	return b, len(b) <= most, err
}
