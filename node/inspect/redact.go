package inspect

import (
	"bytes"
	"regexp"
	"strings"
)

// Redacted stands where a secret was.
const Redacted = "[redacted]"

// secretName matches the names of settings whose values are secrets. Names of files with secrets,
// such as tls.key, do not match: a path is none.
const secretName = `(?:[a-z0-9_.-]*(?:password|passwd|passphrase|secret|api[_-]?key|access[_-]?key|credential|` +
	`priv(?:ate)?[_-]?key|mnemonic|token)s?)`

// patterns are the forms of secrets that are known by their surroundings, and what replaces them.
var patterns = []struct {
	form *regexp.Regexp
	with string
}{
	// -----BEGIN PRIVATE KEY-----; a block that was cut off goes on to the end
	{regexp.MustCompile(`(?s)-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|\z)`),
		Redacted},

	// "priv_key": {"type": …, "value": …}
	{regexp.MustCompile(`(?i)("priv(?:ate)?_?key"\s*:\s*)\{[^{}]*\}`), `${1}"` + Redacted + `"`},

	// user:password@host without a scheme, as in a list of peers
	{regexp.MustCompile(`([A-Za-z0-9_.%+-]+):[^\s/:@"',;()\[\]{}]+@([A-Za-z0-9\[])`), "${1}:" + Redacted + "@${2}"},

	// authorization: Bearer token
	{regexp.MustCompile(`(?i)\b((?:bearer|basic)\s+)[A-Za-z0-9._~+/=-]{8,}`), "${1}" + Redacted},

	// password = "…", "password": "…", password='…', and password=… in a connection string or a
	// query
	{regexp.MustCompile(`(?i)("?\b` + secretName + `"?\s*[:=]\s*)"(?:[^"\\\n]|\\.)+"`), `${1}"` + Redacted + `"`},
	{regexp.MustCompile(`(?i)(\b` + secretName + `\s*[:=]\s*)'[^'\n]+'`), `${1}'` + Redacted + `'`},
	{regexp.MustCompile(`(?i)(\b` + secretName + `=)[^\s"'&,;\[]+`), "${1}" + Redacted},
}

// userinfo matches what stands before the host of a URL: user:password, or a token.
var userinfo = regexp.MustCompile(`(?i)\b([a-z][a-z0-9+.-]*://)([^\s/"'<>]*)@`)

// peerID matches the id of a peer of CometBFT, which stands at the place of a user, and is public.
var peerID = regexp.MustCompile(`^(?i:[0-9a-f]{40})$`)

// redactURL returns the beginning of a URL, up to the @ before its host, without its secret.
func redactURL(url []byte) []byte {
	part := userinfo.FindSubmatch(url)
	if peerID.Match(part[2]) {
		return url
	}
	return append(bytes.Clone(part[1]), Redacted+"@"...)
}

// Redact returns text in which Redacted stands in the place of passwords and keys that can be
// known by their surroundings, and of each of the given secrets.
func Redact(text []byte, secrets ...string) []byte {
	for _, s := range secrets {
		if s != "" {
			text = bytes.ReplaceAll(text, []byte(s), []byte(Redacted))
		}
	}

	text = userinfo.ReplaceAllFunc(text, redactURL)
	for _, p := range patterns {
		text = p.form.ReplaceAll(text, []byte(p.with))
	}
	return text
}

var secretSetting = regexp.MustCompile(`(?i)^` + secretName + `$`)

// RedactValue returns the value of a setting without secrets.
func RedactValue(name, value string) string {
	if value != "" && secretSetting.MatchString(name[strings.LastIndexByte(name, '.')+1:]) {
		return Redacted
	}
	return string(Redact([]byte(value)))
}
