package bare

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	cfg "github.com/cometbft/cometbft/config"

	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
	"github.com/coppice-go/coppice/internal/durable"
)

// Told gets the steps of a reset as they are done.
type Told interface {
	AddressBookRemoved()
	HistoryRemoved()
	Signing(Signing)
}

// Check returns an error for a period that Reset would refuse.
func (h *Home) Check(p Period) error {
	if _, _, err := h.rewritten(p); err != nil {
		return err
	}
	_, err := h.removable()
	return err
}

// Reset drops the chain of the home and makes the home that of a node whose chain begins with p.
// The keys stay. Reset first writes down that it has begun: if the process is killed during it, the
// next Open finishes it, whatever lies on the disk.
func (h *Home) Reset(p Period, told Told) error {
	if err := h.Check(p); err != nil {
		return err
	}

	note, err := json.Marshal(p)
	if err != nil {
		return err
	}
	if err := makeDir(filepath.Join(h.signing, "")); err != nil {
		return err
	}
	if err := replace(h.note(), note); err != nil {
		return err
	}

	return h.reset(p, told)
}

func (h *Home) note() string { return filepath.Join(h.signing, resetFile) }

func (h *Home) reset(p Period, told Told) error {
	genesis, doc, err := h.rewritten(p)
	if err != nil {
		return err
	}

	if err := h.removeAddressBook(); err != nil {
		return err
	}
	told.AddressBookRemoved()

	if err := h.removeHistory(); err != nil {
		return err
	}
	told.HistoryRemoved()

	if err := replace(comethome.GenesisPath(h.dir), genesis); err != nil {
		return err
	}
	s, err := h.adopt(doc, true)
	if err != nil {
		return err
	}
	told.Signing(s)

	if err := durable.OS.Remove(h.note()); err != nil {
		return fmt.Errorf("%w: %w", comethome.ErrHome, err)
	}

	return nil
}

// finish finishes a reset that a kill has interrupted.
func (h *Home) finish() error {
	data, err := os.ReadFile(h.note())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var p Period
	if err == nil {
		err = json.Unmarshal(data, &p)
	}
	if err != nil {
		return fmt.Errorf("%w: %s: %w", comethome.ErrHome, h.note(), err)
	}
	return h.reset(p, silent{})
}

// Forget drops the note of a reset that has failed, so that no later start repeats it.
func (h *Home) Forget() error {
	if err := durable.OS.Remove(h.note()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %w", comethome.ErrHome, err)
	}
	return nil
}

type silent struct{}

func (silent) AddressBookRemoved() {}
func (silent) HistoryRemoved()     {}
func (silent) Signing(Signing)     {}

func (h *Home) removeAddressBook() error {
	c, err := h.Config()
	if err != nil {
		return err
	}
	if err := durable.OS.Remove(c.P2P.AddrBookFile()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: address book: %w", comethome.ErrHome, err)
	}
	return nil
}

// removable returns the directory of the chain's data. It returns an error if the directory also
// contains files that must stay.
func (h *Home) removable() (*cfg.Config, error) {
	c, err := h.Config()
	if err != nil {
		return nil, err
	}

	for _, stays := range []string{c.PrivValidatorKeyFile(), c.NodeKeyFile(), c.GenesisFile(),
		filepath.Join(h.dir, cfg.DefaultConfigDir, cfg.DefaultConfigFileName), h.signing} {
		rel, err := filepath.Rel(c.DBDir(), stays)
		if err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator)) {
			return nil, fmt.Errorf("%w: db_dir = %q contains %s, which a reset must not remove: want a directory of "+
				"its own for the chain's data", comethome.ErrHome, c.DBPath, stays)
		}
	}

	return c, nil
}

// removeHistory removes the chain's data, entry by entry. The signing state is never moved.
func (h *Home) removeHistory() error {
	c, err := h.removable()
	if err != nil {
		return err
	}

	entries, err := os.ReadDir(c.DBDir())
	if err != nil {
		return fmt.Errorf("%w: history: %w", comethome.ErrHome, err)
	}
	for _, e := range entries {
		path := filepath.Join(c.DBDir(), e.Name())
		if filepath.Clean(path) == filepath.Clean(c.PrivValidatorStateFile()) {
			continue
		}
		if err := os.RemoveAll(path); err != nil {
			return fmt.Errorf("%w: history: %w", comethome.ErrHome, err)
		}
	}
	if err := durable.OS.SyncDir(c.DBDir()); err != nil {
		return fmt.Errorf("%w: history: %w", comethome.ErrHome, err)
	}

	return nil
}
