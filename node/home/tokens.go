package home

import (
	"errors"
	"io/fs"
	"path/filepath"

	"github.com/coppice-go/coppice/node/api"
)

// submitTokenFile holds the token for those who may submit and read from beyond this machine, and
// no more.
const submitTokenFile = "submit.token"

// readTokens reads the admin token and the submit token of a home. The second may be missing.
func ReadTokens(home string) (admin, submit string, err error) {
	if admin, err = ReadToken(filepath.Join(home, api.TokenFileName)); err != nil {
		return "", "", err
	}
	if submit, err = ReadToken(filepath.Join(home, submitTokenFile)); errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return admin, submit, err
}
