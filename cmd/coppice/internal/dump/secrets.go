package dump

import (
	"bytes"
	"cmp"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// minSecret is the length of the shortest string that is taken for a secret. The replacement of a
// shorter one would leave nothing readable.
const minSecret = 12

// maxSecretFile is the size of the largest file that is searched for secrets.
const maxSecretFile = 256 << 10

// Secrets returns the secrets in the files of a home whose names say that they hold one, and in the
// given other files: tokens, private keys in CometBFT's form, and private keys in PEM.
func Secrets(home string, others ...string) (secrets []string) {
	files := others

	_ = filepath.WalkDir(home, func(path string, e fs.DirEntry, err error) error { // it returns no other error
		switch {
		case err != nil: // what cannot be read is not in the archive either
			return nil
		case e.IsDir() && path == filepath.Join(home, "data"):
			return fs.SkipDir // it may be large, and has no keys
		case !e.IsDir() && namesSecret(e.Name()):
			files = append(files, path)
		}
		return nil
	})

	for _, name := range files {
		if info, err := os.Stat(name); err != nil || !info.Mode().IsRegular() || info.Size() > maxSecretFile {
			continue
		}
		if data, err := os.ReadFile(name); err == nil {
			secrets = append(secrets, secretsIn(data)...)
		}
	}

	return Spelled(secrets...)
}

// Spelled returns secrets, and how they are spelled in JSON if that is different.
func Spelled(secrets ...string) []string {
	all := slices.Clone(secrets)
	for _, s := range secrets {
		for _, html := range []bool{false, true} {
			var b bytes.Buffer
			e := json.NewEncoder(&b)
			e.SetEscapeHTML(html)
			if e.Encode(s) == nil {
				all = append(all, strings.Trim(strings.TrimSpace(b.String()), `"`))
			}
		}
	}

	slices.SortFunc(all, func(a, b string) int { return cmp.Or(len(b)-len(a), strings.Compare(a, b)) })
	return slices.Compact(all) // a longer one first: another may be a part of it
}

// namesSecret reports whether a file of that name may hold a secret.
func namesSecret(name string) bool {
	name = strings.ToLower(name)
	for _, word := range []string{"token", "key", "secret", "password", ".pem"} {
		if strings.Contains(name, word) {
			return true
		}
	}
	return false
}

// secretsIn returns the secrets in a file.
func secretsIn(data []byte) (secrets []string) {
	text := strings.TrimSpace(string(data))

	switch {
	case strings.Contains(text, "-----BEGIN "):
		private := false
		for line := range strings.Lines(text) {
			line = strings.TrimSpace(line)
			if strings.HasPrefix(line, "-----") {
				private = strings.Contains(line, "BEGIN") && strings.Contains(line, "PRIVATE KEY")
			} else if private && len(line) >= minSecret {
				secrets = append(secrets, line)
			}
		}

	case strings.HasPrefix(text, "{"):
		var v map[string]any
		if json.Unmarshal(data, &v) == nil {
			secrets = privateIn(v, false)
		}

	default: // a token, which may be followed by the time of its end
		for line := range strings.Lines(text) {
			line = strings.TrimSpace(line)
			if len(line) >= minSecret {
				secrets = append(secrets, line)
			}
			if at := strings.LastIndexByte(line, ' '); at >= minSecret {
				secrets = append(secrets, line[:at])
			}
		}
	}

	return secrets
}

// privateIn returns the strings of v below names that say that they are private.
func privateIn(v any, private bool) (secrets []string) {
	switch v := v.(type) {
	case map[string]any:
		for name, inner := range v {
			secrets = append(secrets, privateIn(inner, private || strings.Contains(strings.ToLower(name), "priv"))...)
		}
	case []any:
		for _, inner := range v {
			secrets = append(secrets, privateIn(inner, private)...)
		}
	case string:
		if private && len(v) >= minSecret && !strings.HasPrefix(v, "tendermint/") {
			secrets = append(secrets, v)
		}
	}
	return secrets
}
