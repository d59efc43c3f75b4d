package home

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/coppice-go/coppice/node/api"
	"github.com/coppice-go/coppice/node/exit"
)

// submitTokenFile holds the token for clients on other machines that may only submit and read.
const submitTokenFile = "submit.token"

// ReadTokens reads the admin token and the submit token of a home. The second may be missing.
func ReadTokens(home string) (admin, submit string, err error) {
	if admin, err = ReadToken(filepath.Join(home, api.TokenFileName)); err != nil {
		return "", "", err
	}
	if submit, err = ReadToken(filepath.Join(home, submitTokenFile)); errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return admin, submit, err
}

// ReadToken reads a token from a file. Errors are exit.ErrConfig.
func ReadToken(path string) (string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("%w: %w", exit.ErrConfig, err)
	}
	token := strings.TrimRight(string(data), "\r\n")
	if len(token) < 20 {
		return "", fmt.Errorf("%w: %s: %d characters, want at least 20", exit.ErrConfig, path, len(token))
	}
	if i := strings.IndexFunc(token, func(r rune) bool { return r < ' ' || r > '~' }); i >= 0 {
		return "", fmt.Errorf("%w: %s: byte %d is no printable ASCII character, and no client can send such a token",
			exit.ErrConfig, path, i+1)
	}
	if strings.TrimSpace(token) != token {
		return "", fmt.Errorf("%w: %s: the token begins or ends with a space, which clients leave out",
			exit.ErrConfig, path)
	}

	return token, nil
}
