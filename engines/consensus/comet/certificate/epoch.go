package certificate

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/cometbft/cometbft/types"
	"google.golang.org/protobuf/proto"

	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// Epoch is what is kept of one epoch of a chain.
type Epoch struct {
	Number uint64
	First  *types.LightBlock   // nil: it is not kept
	Way    []*types.LightBlock // between First and the end, if First alone does not lead there
	End    *Certificate        // of the reset that ended it; nil: it has not ended
}

// blocks returns all blocks of the epoch, by height.
func (e Epoch) blocks() (all []*types.LightBlock) {
	if e.First != nil {
		all = append(all, e.First)
	}
	all = append(all, e.Way...)
	if e.End != nil {
		all = append(all, e.End.Decided, e.End.Held)
	}
	return all
}

// EncodeWay encodes blocks as a logv1.LightBlocks.
func EncodeWay(way []*types.LightBlock) ([]byte, error) {
	m := new(logv1.LightBlocks)
	for _, b := range way {
		raw, err := EncodeBlock(b)
		if err != nil {
			return nil, err
		}
		m.Blocks = append(m.Blocks, raw)
	}
	return proto.Marshal(m)
}

// DecodeWay decodes a logv1.LightBlocks. It verifies nothing.
func DecodeWay(b []byte) (way []*types.LightBlock, err error) {
	m := new(logv1.LightBlocks)
	if err := proto.Unmarshal(b, m); err != nil {
		return nil, ErrForm.because("%w", err)
	}
	for _, raw := range m.Blocks {
		block, err := DecodeBlock(raw)
		if err != nil {
			return nil, err
		}
		way = append(way, block)
	}
	return way, nil
}

// Load reads what a directory has of the epochs of a chain, the oldest first. A directory of a home
// is comethome.CertificateDir. Load verifies nothing. An error of a file names it.
func Load(dir string) ([]Epoch, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}

	epochs := make(map[uint64]*Epoch)
	for _, entry := range entries {
		kind, number, ok := comethome.ParseProof(entry.Name())
		if !ok {
			continue
		}
		path := filepath.Join(dir, entry.Name())
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}

		if epochs[number] == nil {
			epochs[number] = &Epoch{Number: number}
		}
		if err := epochs[number].take(kind, data); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}

	var out []Epoch
	for _, e := range epochs {
		out = append(out, *e)
	}
	slices.SortFunc(out, func(a, b Epoch) int { return int(a.Number) - int(b.Number) })

	return out, nil
}

// take decodes one of the files of the epoch.
func (e *Epoch) take(kind comethome.Proof, data []byte) (err error) {
	switch kind {
	case comethome.Certificate:
		c, err := Decode(data)
		e.End = &c
		return err
	case comethome.FirstBlock:
		e.First, err = DecodeBlock(data)
	case comethome.Way:
		e.Way, err = DecodeWay(data)
	}
	return err
}

// CheckAll returns an error if what is kept of a chain with the given name contradicts itself. What
// is missing is no contradiction.
func CheckAll(name string, epochs []Epoch) error {
	for i, e := range epochs {
		if e.End == nil {
			continue
		}
		if err := e.End.Verify(idOf(name, e.Number), e.Number); err != nil {
			return fmt.Errorf("epoch %d: %w", e.Number, err)
		}

		if i+1 == len(epochs) || epochs[i+1].Number != e.Number+1 || epochs[i+1].First == nil {
			continue
		}
		if err := e.End.Begins(idOf(name, e.Number+1), e.Number+1, epochs[i+1].First); err != nil {
			return fmt.Errorf("epoch %d: %w", e.Number+1, err)
		}
	}

	return nil
}
