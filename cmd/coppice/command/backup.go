package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
	"github.com/coppice-go/coppice/node/api"
	"github.com/coppice-go/coppice/node/backup"
	"github.com/coppice-go/coppice/node/exit"
	"github.com/coppice-go/coppice/node/home"
	"github.com/coppice-go/coppice/node/offline"
)

func (a *app) backupCommand() *cobra.Command {
	var asJSON, withToken, salvage bool
	var keys string
	cmd := &cobra.Command{
		Use:   "backup DEST",
		Short: "Back up a running node or a stopped home into a directory",
		Long: `Backup writes a snapshot of the state, the records of the log after it, the genesis and the
configuration. Everything that was acknowledged before the call is in the backup, and the node goes
on meanwhile. DEST must be empty or not exist. The backup appears there complete and verified, or
not at all.

Of a home with CometBFT, the backup also has CometBFT's blocks, state and configuration as they are
at one moment, at the height of our state or above. It never has a key. With --keys, the node key
and the validator key are copied into a directory of their own, which must be empty or not exist.
The signing state is never copied, because it is old as soon as the validator signs again.

Verified means restored: at the end, backup restores what it wrote, in a directory beside DEST that
it removes again, and reads that home as 'coppice verify --skip-replay' does.

With --salvage, backup works on a stopped home whose log or state is damaged. It takes the newest
state or snapshot, which includes what was in lost records before it, and the records after it up to
the next lost one. Without either, it makes the state again from the records before the first lost
one. Without any record, it takes the state alone. It prints what is lost. It exits 5 unless
everything that was acknowledged has its result in the backup, waits in it, or has expired. The home
may be on a file system that is mounted read-only.

The admin token is left out.`,
		Example: `  coppice backup /backups/$(date +%F)
  coppice restore /backups/2026-11-22 --home /srv/coppice
  coppice backup /backups/validator --keys /safe/validator-keys
  coppice backup --salvage /backups/what-is-left`,
		Args: words("DEST"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if keys != "" && (salvage || a.address != "") {
				return usageError(cmd, "--keys copies the keys of the home on this machine: want it without --salvage "+
					"and --address")
			}
			if err := a.apartFromData(args[0]); err != nil {
				return err
			}
			saveKeys, err := a.keySaver(keys, args[0])
			if err != nil {
				return err
			}

			show := newProgress()
			info, lost, err := a.backup(cmd.Context(), args[0],
				backupOptions{withToken, salvage, steps(show), fatal(cmd)})
			show.end()
			if err != nil {
				return err
			}
			if err := saveKeys(); err != nil {
				return fmt.Errorf("the backup %s is complete, but its keys could not be copied: %w", args[0],
					exit.Classify(err))
			}

			out := cmd.OutOrStdout()

			if asJSON {
				if !salvage {
					return printJSON(out, info)
				}
				return errors.Join(printJSON(out,
					salvagedJSON{info, gapsJSON(lost.Gaps), lost.Front, lost.NoLog, lost.Cut, lost.Settled}),
					unsettled(lost))
			}

			_, err = fmt.Fprintf(out, "backup of %s at height %d, app hash %v: snapshot %s and %s after it, verified\n",
				info.ChainID, info.Height, info.AppHash, info.Snapshot, recordRange(info.First, info.Last))
			if err == nil && keys != "" {
				_, err = fmt.Fprintf(out, "the keys are in %s: whoever has them can sign as this validator\n", keys)
			}
			if err != nil || !salvage {
				return err
			}

			return errors.Join(printLost(out, lost), unsettled(lost))
		},
	}
	f := cmd.Flags()
	f.BoolVar(&salvage, "salvage", false, "back up what can be proved of a damaged, stopped home, and "+
		"print what is lost")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	f.StringVar(&keys, "keys", "", "copy the keys of a home with CometBFT into this directory, apart from the "+
		"backup")
	f.BoolVar(&withToken, "with-token", false, "include the admin token; the holder of the backup then has power over "+
		"the node")

	return cmd
}

// keySaver checks that the keys of the home can be copied into a directory, apart from the backup,
// and returns the function that copies them. An empty dir stands for no copy.
func (a *app) keySaver(dir, backupDest string) (save func() error, err error) {
	if dir == "" {
		return func() error { return nil }, nil
	}
	if dir, err = backup.RequireVacant(dir); err != nil {
		return nil, fmt.Errorf("--keys: %w", err)
	}

	dest, err := filepath.Abs(backupDest)
	if err != nil {
		return nil, err
	}
	if within(dir, dest) || within(dest, dir) {
		return nil, fmt.Errorf("%w: --keys %s: want a directory apart from the backup %s", exit.ErrConfig, dir, dest)
	}

	k, c, err := home.Restorer(a.home)
	if err == nil && k == nil {
		err = fmt.Errorf("%w: %s has consensus %s, which has no keys", exit.ErrConfig, a.home, c.Consensus.Kind)
	}
	if err != nil {
		return nil, fmt.Errorf("--keys: %w", err)
	}

	cometHome := comethome.Dir(a.home)
	if _, err := comethome.ReadKeys(cometHome); err != nil {
		return nil, fmt.Errorf("--keys: %w", exit.Classify(err))
	}
	return func() error { return comethome.SaveKeys(cometHome, dir) }, nil
}

// apartFromData returns an error if a backup would lie in the data of the home, which the node owns
// and which is lost together with the home.
func (a *app) apartFromData(dest string) error {
	path, err := filepath.Abs(dest)
	if err != nil {
		return err
	}
	data, err := filepath.Abs(filepath.Dir(home.StateDir(a.home)))
	if err != nil {
		return err
	}

	if within(path, data) {
		return fmt.Errorf("%w: %s is in the data of the home, %s: want a directory outside of it", exit.ErrConfig, path,
			data)
	}
	return nil
}

// within reports whether path is dir or lies below it. Both are absolute.
func within(path, dir string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && filepath.IsLocal(rel)
}

// backupOptions are the flags of backup, and how it reports progress and fatal errors.
type backupOptions struct {
	withToken, salvage bool
	progress           func(string, uint64, uint64)
	fatal              func(error)
}

// backup makes the backup of a stopped home, or receives it from the running node.
func (a *app) backup(ctx context.Context, dest string, o backupOptions) (info backup.Info, lost offline.Lost,
	err error) {
	var token []byte
	if o.withToken {
		if token, err = os.ReadFile(filepath.Join(a.home, api.TokenFileName)); err != nil {
			return info, lost, err
		}
	}

	options := backup.Options{Program: program(), Token: token, Progress: o.progress, Fatal: o.fatal,
		Prove: offline.Rehearse}

	switch {
	case o.salvage:
		return offline.Salvage(ctx, a.home, dest, options)
	case a.address == "":
		info, err = offline.Backup(ctx, a.home, dest, options)
	}

	if !a.running(err) {
		return info, lost, err
	}
	w, err := backup.NewWriter(dest, options)
	if err != nil {
		return info, lost, err
	}
	defer w.Abandon()

	if err := a.client().Backup(ctx, w.Take); err != nil {
		return info, lost, a.nodeError(ctx, err)
	}

	info, err = w.Finish(ctx)
	return info, lost, err
}

// salvagedJSON is what "backup --salvage --json" prints.
type salvagedJSON struct {
	backup.Info
	Missing []logGapJSON `json:"missing,omitempty"`
	Front   string       `json:"front,omitempty"`
	NoLog   string       `json:"no_log,omitempty"` // no record of the log is left, and why
	Cut     uint64       `json:"cut,omitempty"`    // the backup lacks the log's records from here on
	Settled bool         `json:"settled"`          // nothing that was acknowledged is lost
}

// printLost prints what a salvaged backup lacks.
func printLost(out io.Writer, lost offline.Lost) error {
	var b strings.Builder
	if lost.NoLog != "" {
		fmt.Fprintf(&b, "missing  all records, and what was acknowledged after the state: %s\n", lost.NoLog)
	}
	if lost.Front != "" {
		fmt.Fprintf(&b, "missing  perhaps records before the first: %s\n", lost.Front)
	}

	for _, g := range gapsJSON(lost.Gaps) {
		fmt.Fprintf(&b, "missing  %s\n", g.text())
	}

	if lost.Cut > 0 {
		fmt.Fprintf(&b, "cut      at record %d: later records cannot be applied without it\n", lost.Cut)
	}

	if lost.Any() && lost.Settled {
		fmt.Fprintln(&b, "settled  everything that was acknowledged has its result in the backup, waits in it, or "+
			"has expired")
	}

	_, err := io.WriteString(out, b.String())
	return err
}

// unsettled returns the error for a backup that may lack acknowledged transactions, or nil.
func unsettled(lost offline.Lost) error {
	if lost.Settled {
		return nil
	}
	return &exitError{exit.Damage,
		errors.New("the backup is complete, but may lack transactions that were acknowledged in lost records")}
}
