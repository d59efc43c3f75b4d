package comet

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/coppice-go/coppice/engines/consensus"
	"github.com/coppice-go/coppice/engines/consensus/comet/child"
	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
	"github.com/coppice-go/coppice/engines/consensus/comet/rpcserver"
)

// blockKeep keeps CometBFT from dropping blocks as long as somebody holds it. It is safe for
// concurrent use.
type blockKeep struct{ holders atomic.Int64 }

// held reports whether somebody holds k. A nil k is not held.
func (k *blockKeep) held() bool { return k != nil && k.holders.Load() > 0 }

// Keep implements consensus.Copier.
func (d Driver) Keep() (release func()) {
	if d.keep == nil {
		return func() {}
	}

	d.keep.holders.Add(1)
	var done atomic.Bool
	return func() {
		if !done.Swap(true) {
			d.keep.holders.Add(-1)
		}
	}
}

// copyWait is how long Copy waits for a CometBFT that does not answer, such as one that is being
// started again.
const copyWait = 15 * time.Second

// ErrNoCopy is the error if CometBFT's process gave no copy of its databases, or ended before the
// copy was whole.
var ErrNoCopy = errors.New("no copy of CometBFT's databases")

// Copy implements consensus.Copier. CometBFT's process takes snapshots of its databases, which
// costs it no more than a lock, and then sends their content while its consensus goes on.
func (d Driver) Copy(ctx context.Context) (consensus.Copy, error) {
	home, err := filepath.Abs(d.Home)
	if err != nil {
		return nil, err
	}
	return copyOf(ctx, home, rpcSocket(comethome.SocketDir(home)), copyWait)
}

func copyOf(ctx context.Context, home, socket string, wait time.Duration) (consensus.Copy, error) {
	small, err := smallFiles(home)
	if err != nil {
		return nil, err
	}

	// The transport is closed with the copy, which ends CometBFT's work on it.
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}, DisableCompression: true, DisableKeepAlives: true}
	body, err := requestCopy(ctx, &http.Client{Transport: transport}, wait)
	if err != nil {
		return nil, err
	}

	r := bufio.NewReaderSize(body, 256<<10)
	head, err := comethome.ReadCopyHead(r)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%w: %w", ErrNoCopy, err), body.Close())
	}

	return newCopy(home, small, head, func(ctx context.Context, _ int, to io.Writer) error {
		if err := comethome.CopyPairs(ctx, r, to); err != nil {
			return fmt.Errorf("%w: CometBFT's process ended while they were copied, or could not read them: %w",
				ErrNoCopy, err)
		}
		return nil
	}, body.Close)
}

// requestCopy asks until there is an answer. A refusal is an answer.
func requestCopy(ctx context.Context, c *http.Client, wait time.Duration) (io.ReadCloser, error) {
	late := time.After(wait)

	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://comet"+rpcserver.CopyPath, nil)
		if err != nil {
			return nil, err
		}
		resp, err := c.Do(req)
		if err == nil && resp.StatusCode == http.StatusOK {
			return resp.Body, nil
		}
		if err == nil {
			why, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10)) // the status is told in any case
			return nil, errors.Join(fmt.Errorf("%w: CometBFT's process answered %s: %s", ErrNoCopy, resp.Status,
				bytes.TrimSpace(why)), resp.Body.Close())
		}

		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-late:
			return nil, fmt.Errorf("%w: CometBFT's process does not answer: %w", ErrNoCopy, err)
		case <-time.After(feedRetry):
		}
	}
}

// CopyStopped implements consensus.Restorer.
func (Kind) CopyStopped(ctx context.Context, h consensus.Home) (consensus.Copy, error) {
	home := comethome.Dir(h.Dir)
	small, err := smallFiles(home)
	if err != nil {
		return nil, err
	}
	open, closeAll, err := comethome.OpenDatabases(home)
	if err != nil {
		return nil, err
	}
	if len(open) == 0 {
		return newCopy(home, small, comethome.CopyHead{}, nil, closeAll)
	}

	f, err := comethome.Freeze(ctx, open)
	if err != nil {
		return nil, errors.Join(err, closeAll())
	}

	return newCopy(home, small, f.CopyHead, f.WritePairs, func() error {
		f.Release()
		return closeAll()
	})
}

// Restore implements consensus.Restorer. The options are a comethome.RestoreOptions.
func (Kind) Restore(ctx context.Context, h consensus.Home, r consensus.Restoring) error {
	o, ok := r.Options.(comethome.RestoreOptions)
	if !ok && r.Options != nil {
		return fmt.Errorf("options of consensus %s: a %T, want a %T", Name, r.Options, o)
	}

	var done uint64
	made, err := comethome.Restore(ctx, comethome.Dir(h.Dir), r.From, r.Facts.Files, o, func(n uint64) {
		done += n
		r.Progress(done, max(done, uint64(r.Facts.Bytes)))
	})
	if err == nil && made.SigningState != "" {
		err = child.VerifySigningState(comethome.Dir(h.Dir), made.SigningState)
	}
	if err != nil {
		return err
	}

	for _, text := range notes(made) {
		r.Note(text)
	}
	return nil
}

// notes returns what an operator must know of a restored home.
func notes(r comethome.Restored) (texts []string) {
	switch {
	case r.NewKeys && r.Validator.Address == "": // a remote signer has the key
		texts = append(texts, fmt.Sprintf("the node has a new key, and the id %s", r.NodeID))

	case r.NewKeys:
		texts = append(texts, fmt.Sprintf("the node has new keys and the id %s: it follows the chain and signs "+
			"nothing; 'coppice restore --keys DIR' restores a validator", r.NodeID))
		if r.Alone != nil {
			texts = append(texts, fmt.Sprintf("%s is the only validator of the chain: without its key no block is made",
				r.Alone.Address))
		}

	case r.Validator.Address != "":
		texts = append(texts, fmt.Sprintf("validator %s signs nothing up to height %d: before you start it, make sure "+
			"that the one which it replaces is stopped for good", r.Validator.Address, r.Signed))
	}
	return texts
}

// smallFile is a file that is copied whole.
type smallFile struct {
	name string
	data []byte
}

func smallFiles(home string) ([]smallFile, error) {
	config, genesis, err := comethome.CopiedFiles(home)
	if err != nil {
		return nil, err
	}
	small := []smallFile{{"config.toml", config}, {"genesis.json", genesis}}

	names, proofs, err := comethome.CopiedProofs(home)
	for i, name := range names {
		small = append(small, smallFile{name, proofs[i]})
	}

	return small, err
}

// copied is a copy of a CometBFT home.
type copied struct {
	facts consensus.Facts
	small []smallFile
	pairs func(ctx context.Context, i int, to io.Writer) error // of the database i
	close func() error
}

func newCopy(home string, small []smallFile, head comethome.CopyHead,
	pairs func(context.Context, int, io.Writer) error, closing func() error) (consensus.Copy, error) {
	c := &copied{small: small, pairs: pairs, close: closing}
	c.facts = consensus.Facts{Kind: Name, Height: uint64(max(head.Blocks, head.State))}

	for _, f := range small {
		c.facts.Files = append(c.facts.Files, f.name)
		c.facts.Bytes += int64(len(f.data))
	}
	for _, name := range head.Databases {
		c.facts.Files = append(c.facts.Files, comethome.PairsFile(name))
	}

	conf, err := comethome.LoadConfig(home)
	if err != nil {
		return nil, errors.Join(err, closing())
	}
	c.facts.Bytes += comethome.DatabaseBytes(conf)

	return c, nil
}

// Facts implements consensus.Copy.
func (c *copied) Facts() consensus.Facts { return c.facts }

// Close implements consensus.Copy.
func (c *copied) Close() error {
	closing := c.close
	c.close = func() error { return nil }
	return closing()
}

// Send implements consensus.Copy.
func (c *copied) Send(ctx context.Context, send func(name string, piece []byte, last bool) error) error {
	for i, name := range c.facts.Files {
		w := &pieces{name: name, send: send}
		var err error
		if i < len(c.small) {
			_, err = w.Write(c.small[i].data)
		} else if err = c.pairs(ctx, i-len(c.small), w); err != nil {
			err = fmt.Errorf("%s: %w", name, err)
		}
		if err == nil {
			err = w.end()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// pieceBytes is the size of a piece of a file.
const pieceBytes = 256 << 10

// pieces sends what is written to it in pieces.
type pieces struct {
	name string
	send func(name string, piece []byte, last bool) error
	buf  []byte
}

// Write implements io.Writer.
func (p *pieces) Write(b []byte) (n int, err error) {
	for n < len(b) {
		if len(p.buf) == pieceBytes {
			if err := p.send(p.name, p.buf, false); err != nil {
				return n, err
			}
			p.buf = nil // the receiver may still have it
		}
		if p.buf == nil {
			p.buf = make([]byte, 0, pieceBytes)
		}
		some := min(len(b)-n, pieceBytes-len(p.buf))
		p.buf = append(p.buf, b[n:n+some]...)
		n += some
	}
	return n, nil
}

// end sends the last piece, which may be empty.
func (p *pieces) end() error { return p.send(p.name, p.buf, true) }
