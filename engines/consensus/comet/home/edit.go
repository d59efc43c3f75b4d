package home

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	cfg "github.com/cometbft/cometbft/config"

	"github.com/coppice-go/coppice/internal/durable"
)

// ReadConfig reads the configuration of a home that another program has made. Unlike LoadConfig it
// accepts keys that it does not know, such as those of another version of CometBFT.
func ReadConfig(home string) (*cfg.Config, error) {
	c, _, err := readConfig(home)
	return c, err
}

// Setting is the value of a key of the configuration file, in the form of the file. Section is
// empty for the keys before the first section.
type Setting struct{ Section, Key, Value string }

// Text returns the Setting of a key whose value is a text.
func Text(section, key, value string) Setting { return Setting{section, key, strconv.Quote(value)} }

// EditConfig changes settings in the configuration file of a home and leaves the rest of the file
// as it is. If the file would be invalid, EditConfig changes nothing. The file is replaced whole,
// and only if its text changes.
func EditConfig(home string, settings ...Setting) error {
	text, err := EditedConfig(home, settings...)
	if err != nil || text == nil {
		return err
	}
	if err := durable.OS.Replace(configPath(home), text, 0o600); err != nil {
		return fmt.Errorf("%w: %w", ErrHome, err)
	}
	return nil
}

// EditedConfig returns the text that EditConfig would write, or nil if the text would not change.
func EditedConfig(home string, settings ...Setting) ([]byte, error) {
	_, said, err := readConfig(home)
	if err != nil {
		return nil, err
	}

	text := string(said.text)
	for _, s := range settings {
		text = edited(text, s)
	}
	if text == string(said.text) {
		return nil, nil
	}

	c, _, err := parseConfig(home, []byte(text))
	if err != nil {
		return nil, err
	}
	if err := errors.Join(plainSettings(settings), checkPeerLists(c)); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrHome, configPath(home), err)
	}

	return []byte(text), nil
}

func plainSettings(settings []Setting) error {
	for _, s := range settings {
		if !plainText(s.Value) || strings.Contains(s.Value, `\`) {
			return fmt.Errorf("%s = %s: want printable ASCII without quotes and backslashes", s.Key, s.Value)
		}
	}
	return nil
}

// edited returns a TOML text in which the key of s has the value of s. Every other line stays. A
// key that the text does not have is added to its section, and a section that it does not have at
// the end.
func edited(text string, s Setting) string {
	lines := slices.Collect(strings.Lines(text))
	section, at := "", -1
	if s.Section == "" {
		at = 0
	}

	for i, line := range lines {
		word := strings.TrimSpace(line)
		if name, ok := strings.CutPrefix(word, "["); ok && !strings.Contains(word, "=") {
			name, _, _ = strings.Cut(name, "]")
			if section = strings.TrimSpace(name); section == s.Section {
				at = i + 1
			}
			continue
		}

		name, _, ok := strings.Cut(word, "=")
		if ok && section == s.Section && strings.TrimSpace(name) == s.Key {
			lines[i] = s.Key + " = " + s.Value + "\n"
			return strings.Join(lines, "")
		}
	}

	line := s.Key + " = " + s.Value + "\n"
	if at < 0 {
		return strings.TrimRight(text, "\n") + "\n\n[" + s.Section + "]\n" + line
	}
	return strings.Join(slices.Insert(lines, at, line), "")
}
