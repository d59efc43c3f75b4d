package retention

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/zap"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/mempool"
	"github.com/coppice-go/coppice/engines/storage/durable"
	"github.com/coppice-go/coppice/engines/streams"
	"github.com/coppice-go/coppice/eventlog"
	"github.com/coppice-go/coppice/node/home"
)

// Followers are the readers of the log that have registered a retainer with the running node, such
// as a sink: their names, and the lowest record that each of them needs. The retention engine notes
// them in the home, because a retainer ends with the process: without the note, a pruning of the
// stopped home could remove what they have not read yet. A note may be a minute old, and then holds
// more than is needed. A follower that is gone stays in the note until the log no longer has the
// record that it needed.
type Followers map[string]uint64

// followersFile is the content of the file.
type followersFile struct {
	Followers Followers `json:"followers"`
}

// noteEvery is the time between two notes of followers that only have read on.
const noteEvery = time.Minute

// ErrFollowers: the note of the followers is not one.
var ErrFollowers = errors.New("not a note of followers")

// ReadFollowers returns the noted followers of a home; none if there is no note. An error of class
// ErrFollowers says that the file is damaged.
func ReadFollowers(disk vfs.FS, dir string) (Followers, error) {
	path := home.FollowersPath(dir)
	f, err := disk.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Followers{}, nil
	}
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(f)
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, err
	}

	var content followersFile
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&content); err != nil || content.Followers == nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrFollowers, path, errors.Join(chain.JSONError(err),
			errors.New(`want {"followers": {NAME: RECORD, …}}`)))
	}

	return content.Followers, nil
}

// Write notes the followers in a home, durably.
func (f Followers) Write(disk vfs.FS, dir string) error {
	data, err := json.MarshalIndent(followersFile{f}, "", "  ")
	if err != nil {
		return err
	}
	return durable.On(disk).Replace(home.FollowersPath(dir), append(data, '\n'), 0o644)
}

// see updates f with the figures of the log. It reports whether a note without the change would let
// too much be removed, or hold for ever (changed), and whether it would only hold more than is
// needed (moved).
func (f Followers) see(st eventlog.Stat) (changed, moved bool) {
	seen := make(map[string]bool)

	for _, r := range st.Retainers {
		if r.Name == RetainState || r.Name == RetainSnapshots || r.Name == mempool.RetainerName ||
			strings.HasPrefix(r.Name, backupRetainer+" ") || strings.HasPrefix(r.Name, streams.RetainerPrefix) {
			continue
		}

		seen[r.Name] = true
		was, known := f[r.Name]
		f[r.Name] = r.Floor
		changed = changed || !known || r.Floor < was
		moved = moved || known && r.Floor > was
	}

	had := len(f)
	maps.DeleteFunc(f, func(name string, floor uint64) bool { return !seen[name] && floor < st.First })

	return changed || len(f) < had, moved
}

// note notes the followers of the log in the home, if that has to be done now.
func (r *retention) note(st eventlog.Stat) (err error) {
	if r.followers == nil {
		if r.followers, err = ReadFollowers(r.Disk, r.Home); errors.Is(err, ErrFollowers) {
			r.Diagnostics.Warn("the note of followers is made anew", zap.Error(err))
			r.followers, err = Followers{}, nil
		}
		if err != nil {
			return err
		}
	}

	next := maps.Clone(r.followers)
	changed, moved := next.see(st)
	if !changed && (!moved || time.Since(r.noted) < noteEvery) {
		return nil
	}
	if err := next.Write(r.Disk, r.Home); err != nil {
		return fmt.Errorf("noting the followers of the log: %w", err)
	}

	r.followers, r.noted = next, time.Now()

	return nil
}
