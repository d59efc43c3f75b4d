//go:build !linux

package plugin

import (
	"crypto/sha256"
	"errors"
	"os"

	"github.com/coppice-go/coppice/engines/streams"
)

// image refuses: only Linux executes an open file.
func image(string, [sha256.Size]byte) (*os.File, error) {
	return nil, streams.Fail(streams.Misconfigured, errors.New("plugins need Linux"))
}
