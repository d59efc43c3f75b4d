package retention

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/coppice-go/coppice/engines/streams"
	"github.com/coppice-go/coppice/eventlog"
	"github.com/coppice-go/coppice/node/home"
)

// statOf returns the figures of a log that begins at first and has these retainers.
func statOf(first uint64, retainers ...eventlog.RetainerStat) eventlog.Stat {
	return eventlog.Stat{First: first, Retainers: retainers}
}

// A follower that is new or needs older records is noted at once, one that has only read on after a
// minute. One that is gone is noted until the log has lost what it needed. The node's own retainers
// are not noted.
func TestFollowersAreNoted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := vfs.NewMem()
		require.NoError(t, disk.MkdirAll(disk.PathDir(home.FollowersPath("home")), 0o700))
		r := &retention{Snapshotter: New(Options{Home: "home", Disk: disk, Diagnostics: zap.NewNop()})}
		noted := func() Followers {
			f, err := ReadFollowers(disk, "home")
			require.NoError(t, err)
			return f
		}
		own := []eventlog.RetainerStat{{Name: RetainState, Floor: 1}, {Name: RetainSnapshots, Floor: 1},
			{Name: "pool", Floor: 1}, {Name: "backup 1-2-3", Floor: 1},
			{Name: streams.RetainerPrefix + "ledger, 1", Floor: 1}}

		require.NoError(t, r.note(statOf(1, own...)))
		_, err := disk.Stat(home.FollowersPath("home"))
		require.Error(t, err, "a node without followers writes no file")

		require.NoError(t, r.note(statOf(1, append(own, eventlog.RetainerStat{Name: "sink", Floor: 5})...)))
		require.Equal(t, Followers{"sink": 5}, noted())

		require.NoError(t, r.note(statOf(1, eventlog.RetainerStat{Name: "sink", Floor: 9})))
		require.Equal(t, Followers{"sink": 5}, noted())
		require.NoError(t, r.note(statOf(1, eventlog.RetainerStat{Name: "sink", Floor: 4})))
		require.Equal(t, Followers{"sink": 4}, noted())
		<-time.After(noteEvery)
		require.NoError(t, r.note(statOf(1, eventlog.RetainerStat{Name: "sink", Floor: 9})))
		require.Equal(t, Followers{"sink": 9}, noted())

		r.followers = nil // another incarnation
		require.NoError(t, r.note(statOf(9)))
		require.Equal(t, Followers{"sink": 9}, noted(), "it may come back")
		require.NoError(t, r.note(statOf(10)))
		require.Empty(t, noted(), "the log no longer has what it needs")
	})
}

func TestADamagedNoteOfFollowersIsNamed(t *testing.T) {
	disk := vfs.NewMem()
	path := home.FollowersPath("home")
	require.NoError(t, disk.MkdirAll(disk.PathDir(path), 0o700))
	for _, text := range []string{"", "{}", `{"followers": {"sink": -1}}`, `{"followers": {}, "more": 1}`} {
		f, err := disk.Create(path, vfs.WriteCategoryUnspecified)
		require.NoError(t, err)
		_, err = f.Write([]byte(text))
		require.NoError(t, err)
		require.NoError(t, f.Close())
		_, err = ReadFollowers(disk, "home")
		require.ErrorIs(t, err, ErrFollowers, text)
		require.ErrorContains(t, err, path)
	}
}
