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

	b, err := io.ReadAll(io.LimitReader(in, maxInput+1))
	if err == nil && len(b) > maxInput {
		err = fmt.Errorf("%s: more than %d bytes, longer than any transaction", name, maxInput)
	}

	return b, err
}
