package offline

import (
	"fmt"
	"path/filepath"

	"github.com/coppice-go/coppice/internal/durable"
	"github.com/coppice-go/coppice/node/home"
)

// migration changes a home of one format into the next format. Upgrade runs it while no other
// process uses the home, and writes the new format only after run has returned. If the process ends
// before that, the old format remains and the migration runs again. So run must be able to continue
// where an earlier run ended: it writes new files and renames them, and skips steps that are done.
// When it returns, everything that it wrote must be durable.
type migration struct {
	to    int
	does  string // one line, for people
	needs string // the first version of the program that reads the format
	run   func(home string) error
}

// migrations lists all migrations in order: to is 2, then 3, then 4. Version 1 is the first format,
// so no migration leads to it.
var migrations []migration

// Upgraded describes what Upgrade did, or would do.
type Upgraded struct {
	From, To int      // formats
	Steps    []string // one line each, for people
}

// Upgrade changes a stopped home to the format of this program, one format at a time. With check it
// changes nothing and returns what it would do. It can be killed at any instant and run again.
// Errors are exit.ErrConfig (there is no home, or it has a newer format) and exit.ErrHomeInUse, or
// the error of the step that failed.
func Upgrade(home string, check bool) (Upgraded, error) { return upgrade(home, check, migrations) }

// upgrade does the work of Upgrade, with the migrations in known.
func upgrade(dir string, check bool, known []migration) (u Upgraded, err error) {
	at, err := home.ReadFormat(dir, home.Version(1+len(known)))
	if err != nil {
		return u, err
	}

	if !check {
		lock, err := home.Lock(dir)
		if err != nil {
			return u, err
		}
		defer lock.Close()

		// Another upgrade may have run before this one got the lock.
		if at, err = home.ReadFormat(dir, home.Version(1+len(known))); err != nil {
			return u, err
		}
	}

	u = Upgraded{From: int(at), To: 1 + len(known)}

	for _, m := range known[at-1:] {
		u.Steps = append(u.Steps, fmt.Sprintf("format %d to %d: %s", m.to-1, m.to, m.does))
		if check {
			continue
		}

		if err := m.run(dir); err != nil {
			return u, fmt.Errorf("upgrade of %s to format %d: %w; the home still has format %d, and the upgrade can "+
				"be run again", dir, m.to, err, m.to-1)
		}

		if err := durable.OS.Replace(filepath.Join(dir, home.FormatFile), []byte(home.Version(m.to).Text(m.needs)),
			0o644); err != nil {
			return u, err
		}
	}

	return u, nil
}
