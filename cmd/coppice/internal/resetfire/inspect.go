package resetfire

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/consensus/comet/child"
	"github.com/coppice-go/coppice/eventlog"
	"github.com/coppice-go/coppice/node/home"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// inspect reads the logs of the stopped nodes, and what their keys have signed.
func (f *fire) inspect(votes string) error {
	f.doing("reading the nodes' logs")
	blocks := make(map[uint64]block)
	for i := range f.Nodes {
		if err := f.readLog(i, blocks); err != nil {
			return fmt.Errorf("the log of node %d: %w", i, err)
		}
	}
	f.res.Heights = len(blocks)

	files, err := filepath.Glob(filepath.Join(votes, "*.votes"))
	if err != nil {
		return err
	}
	if len(files) != f.Nodes {
		return fmt.Errorf("%d files of votes, want %d", len(files), f.Nodes)
	}
	for _, file := range files {
		if err := f.readVotes(file); err != nil {
			return err
		}
	}

	f.res.ByPeer, f.res.Rejoined = f.out.found()
	f.out.eachAlarm(func(line string) { f.charge("%s", line) })

	return nil
}

// block is what a node has committed at a height.
type block struct {
	node      int
	epoch     uint64
	hash, app string
}

// readLog compares the blocks of a node with those of the others. Each epoch must have ended once.
func (f *fire) readLog(node int, blocks map[uint64]block) (err error) {
	l, err := eventlog.OpenReadOnly(home.LogDir(f.net.Home(node)), eventlog.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	ended := make(map[uint64]bool)

	for e, err := range chain.Records(l.Cursor, l.First(), chain.End, chain.KindBlockCommitted, chain.KindChainReset) {
		if err != nil {
			return err
		}
		m, err := chain.DecodeRecord(e)
		if err != nil {
			return err
		}

		switch m := m.(type) {
		case *logv1.ChainReset:
			if ended[m.OldPeriod] {
				f.charge("node %d: epoch %d has ended twice", node, m.OldPeriod)
			}
			ended[m.OldPeriod] = true

		case *logv1.BlockCommitted:
			now := block{node, m.Period, string(m.BlockHash), string(m.AppHash)}
			was, known := blocks[m.Height]
			if !known {
				blocks[m.Height] = now
				continue
			}
			if was.epoch != now.epoch || was.hash != now.hash || was.app != now.app {
				f.charge("height %d: node %d has block %x, app hash %x in epoch %d; node %d has block %x, app hash %x "+
					"in epoch %d", m.Height, was.node, was.hash, was.app, was.epoch, node, now.hash, now.app, now.epoch)
			}
		}
	}

	return nil
}

// readVotes looks for two votes of one key for different blocks in one round.
func (f *fire) readVotes(file string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	signed := make(map[child.Vote]string)
	lines := bufio.NewScanner(bytes.NewReader(data))

	for lines.Scan() {
		var v child.Vote
		if err := json.Unmarshal(lines.Bytes(), &v); err != nil {
			return fmt.Errorf("%s: %q: %w", file, lines.Text(), err)
		}
		f.res.Votes++

		hash := v.Block
		v.Block = ""
		if was, ok := signed[v]; ok && was != hash {
			f.charge("%s: two votes in %+v: for %q and for %q", filepath.Base(file), v, was, hash)
		}
		signed[v] = hash
	}

	return lines.Err()
}
