package home

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/coppice-go/coppice/node/api"
	"github.com/coppice-go/coppice/node/exit"
)

// replacedSuffix ends the name of the file that holds a token that was replaced. Its content is the
// token, a space, and the time until which the node still accepts it (RFC 3339).
const replacedSuffix = ".old"

// Tokens are the tokens in the files of a home. They follow the files, so that a token can be
// replaced while the node runs. Tokens is safe for concurrent use.
type Tokens struct {
	home        string
	diagnostics *zap.Logger

	mu     sync.Mutex
	known  []api.Token
	read   time.Time // when the files were read last
	failed string    // the error of that, which is reported once
}

// FollowTokens is how long a change of a token's file may stay unnoticed.
const FollowTokens = 100 * time.Millisecond

// OpenTokens reads the tokens of a home. All but the admin token may be missing. Errors are
// exit.ErrConfig.
func OpenTokens(home string, diagnostics *zap.Logger) (*Tokens, error) {
	t := &Tokens{home: home, diagnostics: diagnostics}
	return t, t.Reload()
}

// Reload reads the files at once. An error, which is exit.ErrConfig, leaves the tokens as they
// were.
func (t *Tokens) Reload() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.reload()
}

func (t *Tokens) reload() error {
	t.read = time.Now()

	known, err := ReadTokens(t.home)
	if err != nil {
		return err
	}

	t.failed = ""
	if t.known != nil && !slices.Equal(t.known, known) {
		t.diagnostics.Info("tokens were changed", zap.String("home", t.home))
	}
	t.known = known

	return nil
}

// Current returns the tokens, and reads the files first if that was long ago. It implements
// api.Tokens.
func (t *Tokens) Current() []api.Token {
	t.mu.Lock()
	defer t.mu.Unlock()

	if since := time.Since(t.read); since >= FollowTokens || since < 0 {
		if err := t.reload(); err != nil && err.Error() != t.failed {
			t.failed = err.Error()
			t.diagnostics.Error("tokens were not read again; the old ones stay in force", zap.Error(err))
		}
	}

	return t.known
}

// readTokens reads all tokens of a home, those that were replaced included.
func ReadTokens(home string) (known []api.Token, err error) {
	for _, a := range api.Levels {
		path := filepath.Join(home, a.File())

		secret, err := ReadToken(path)
		switch {
		case errors.Is(err, fs.ErrNotExist) && a != api.AdminAccess:
		case err != nil:
			return nil, err
		default:
			known = append(known, api.Token{Access: a, Secret: secret})
		}

		old, err := readReplaced(path + replacedSuffix)
		if err != nil {
			return nil, err
		}
		if old.Secret != "" && old.Secret != secret {
			old.Access = a
			known = append(known, old)
		}
	}

	return known, nil
}

// readReplaced reads a token that was replaced. If there is none, its secret is empty.
func readReplaced(path string) (t api.Token, err error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return t, nil
	}
	if err != nil {
		return t, fmt.Errorf("%w: %w", exit.ErrConfig, err)
	}

	line := strings.TrimRight(string(data), "\r\n")
	at := max(0, strings.LastIndexByte(line, ' ')) // a token may have spaces in it
	secret, until := line[:at], strings.TrimSpace(line[at:])
	if t.Expires, err = time.Parse(time.RFC3339, until); err != nil {
		return t, fmt.Errorf("%w: %s: want a token, a space and the time at which it expires (RFC 3339); remove the "+
			"file to refuse that token at once: %w", exit.ErrConfig, path, err)
	}
	t.Secret = secret

	return t, checkToken(path, secret)
}

// ReadToken reads a token from a file. Errors are exit.ErrConfig.
func ReadToken(path string) (string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("%w: %w", exit.ErrConfig, err)
	}
	token := strings.TrimRight(string(data), "\r\n")

	return token, checkToken(path, token)
}

// checkToken returns an error if the token of a file cannot be used.
func checkToken(path, token string) error {
	if len(token) < 20 {
		return fmt.Errorf("%w: %s: %d characters, want at least 20", exit.ErrConfig, path, len(token))
	}
	if i := strings.IndexFunc(token, func(r rune) bool { return r < ' ' || r > '~' }); i >= 0 {
		return fmt.Errorf("%w: %s: byte %d is no printable ASCII character, and no client can send such a token",
			exit.ErrConfig, path, i+1)
	}
	if strings.TrimSpace(token) != token {
		return fmt.Errorf("%w: %s: the token begins or ends with a space, which clients leave out",
			exit.ErrConfig, path)
	}

	return nil
}
