package backup

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/storage/snapshots"
	"github.com/coppice-go/coppice/node/api"
	"github.com/coppice-go/coppice/node/config"
	"github.com/coppice-go/coppice/node/exit"
)

// seal returns the content of backup.json, with the digests of the files beside it and its own
// digest.
func (w *Writer) seal(ctx context.Context) ([]byte, error) {
	names := []string{chain.GenesisFile, config.FileName}
	if w.info.Token {
		names = append(names, api.TokenFileName)
	}

	defined, err := w.info.streamsNames()
	if err != nil {
		return nil, err
	}
	names = append(names, defined...)
	if c := w.info.Consensus; c != nil {
		for _, name := range c.Files {
			names = append(names, consensusPrefix+name)
		}
	}

	w.info.Files = make(map[string]snapshots.Hex)

	for _, name := range names {
		sum, err := digest(ctx, filepath.Join(w.tmp, filepath.FromSlash(name)), func(int) {})
		if err != nil {
			return nil, fmt.Errorf("backup: %w", err)
		}
		w.info.Files[name] = sum
	}

	w.info.Sum = make(snapshots.Hex, sha256.Size)
	data, err := json.MarshalIndent(w.info, "", "  ")
	if err != nil {
		return nil, err
	}

	data = append(data, '\n')
	blank := sumField(w.info.Sum)
	sum := sha256.Sum256(withoutSum(data, w.info.Sum))
	w.info.Sum = sum[:]
	return bytes.Replace(data, blank, sumField(w.info.Sum), 1), nil
}

// withoutSum returns data with an empty digest in the place of sum. The digest of backup.json is
// computed over these bytes.
func withoutSum(data []byte, sum snapshots.Hex) []byte {
	return bytes.Replace(data, sumField(sum), sumField(nil), 1)
}

// sumField returns the field of backup.json that has the digest.
func sumField(sum snapshots.Hex) []byte { return []byte(`"sum": "` + sum.String() + `"`) }

// checkSum returns an error if data, the content of backup.json, does not match its own digest. The
// first format had no digest.
func (b Info) checkSum(path string, data []byte) error {
	if b.Format == 1 && b.Sum == nil && b.Files == nil {
		return nil
	}
	if sum := sha256.Sum256(withoutSum(data, b.Sum)); b.Format == 1 || !bytes.Equal(sum[:], b.Sum) {
		return fmt.Errorf("%w: %s was changed: its digest is %x, want %v", exit.ErrDamage, path, sum, b.Sum)
	}
	return nil
}

// checkFiles checks the files beside the log and the snapshot against their digests.
func (b Info) checkFiles(ctx context.Context, src string, progress func(step string, done, total uint64)) error {
	names := []string{chain.GenesisFile, config.FileName, api.TokenFileName}
	defined, err := b.streamsNames()
	if err != nil {
		return err
	}
	names = append(names, defined...)
	total := uint64(0)
	if b.Consensus != nil {
		total = uint64(b.Consensus.Bytes)
		for _, name := range b.Consensus.Files {
			if !plainName(name) {
				return fmt.Errorf("%s names the file %q of the consensus, want a plain name", FileName, name)
			}
			names = append(names, consensusPrefix+name)
		}
	}

	done := uint64(0)
	for _, name := range names {
		want, listed := b.Files[name]
		if !listed && (b.Format == 1 || name == api.TokenFileName) {
			continue
		}

		sum, err := digest(ctx, filepath.Join(src, filepath.FromSlash(name)), func(n int) {
			done += uint64(n)
			progress("verify", done, max(done, total))
		})
		if err != nil {
			return err
		}
		if !bytes.Equal(sum, want) {
			return fmt.Errorf("%s was changed: its digest is %v, want %v", name, sum, want)
		}
	}

	return nil
}

// plainName reports whether a name is that of a file in a directory.
func plainName(name string) bool {
	return filepath.IsLocal(name) && filepath.Base(name) == name && name != "."
}

// digest returns the SHA-256 of a file. It calls read with the number of bytes of each step.
func digest(ctx context.Context, path string, read func(n int)) (snapshots.Hex, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()

	sum, buf := sha256.New(), make([]byte, pieceBytes)
	for {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		n, err := f.Read(buf)
		sum.Write(buf[:n])
		read(n)
		if errors.Is(err, io.EOF) {
			return sum.Sum(nil), nil
		}
		if err != nil {
			return nil, err
		}
	}
}
