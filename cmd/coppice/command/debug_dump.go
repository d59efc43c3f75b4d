package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/coppice-go/coppice/cmd/coppice/internal/dump"
	"github.com/coppice-go/coppice/cmd/coppice/internal/plain"
	"github.com/coppice-go/coppice/node/exit"
	"github.com/coppice-go/coppice/node/home"
)

// dumpJSON is what "debug dump --json" prints.
type dumpJSON struct {
	File     string        `json:"file"`
	Bytes    int64         `json:"bytes"`
	Complete bool          `json:"complete"`
	Parts    dump.Manifest `json:"parts"`
}

func (a *app) debugDumpCommand() *cobra.Command {
	var output, logFile string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "dump",
		Short: "Write an archive about a node to attach to a bug report",
		Long: `Dump asks the running node for what it knows about itself, reads what lies in its home, and writes
both into one file: a tar archive, compressed with gzip, that only you can read (mode 0600).

Of the node: the stacks of its goroutines, profiles of its memory, status, tree, the newest events
and records, metrics, the configuration in force, versions, figures of the log and of the disk, and
what CometBFT says about itself. Of the home: the names, sizes and times of its files, the
configuration, the genesis, and the end of the file that the node's diagnostics go to, if there is
one.

The archive has no tokens, keys and passwords, and no bodies of transactions. It does have
addresses, ids of transactions, and what the diagnostics say; look at it before you publish it.

What cannot be had does not keep out the rest: the file MANIFEST in the archive says why. If a part
is missing, for example because no node runs, dump writes the archive and exits 1. It waits for each
part for at most --timeout. The profiles and stacks need the admin token.`,
		Example: `  coppice debug dump
  coppice debug dump --output /tmp/report.tar.gz --log /var/log/coppice.log
  coppice debug dump --address https://node1.example:7070 --ca ca.pem --token $TOKEN`,
		Args: words(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.somethingToDump(); err != nil {
				return err
			}

			now := time.Now()
			name := "coppice-dump-" + now.UTC().Format("20060102T150405Z")
			if output == "" {
				output = name + ".tar.gz"
			}

			m, err := a.dump(cmd.Context(), output, logFile, name, now)
			if err != nil {
				return err
			}

			missing := m.Missing()
			out := cmd.OutOrStdout()
			size := fileSize(output)

			if asJSON {
				err = printJSON(out, dumpJSON{output, size, len(missing) == 0, m})
			} else {
				_, err = fmt.Fprintf(out, "wrote %s: %d parts, %s\n", output, len(m)-len(missing), byteCount(size))
			}
			if err != nil || len(missing) == 0 {
				return err
			}

			return incompleteDump(cmd.ErrOrStderr(), asJSON, output, m)
		},
	}
	f := cmd.Flags()
	f.StringVar(&output, "output", "", "file to write; it must not exist (default: coppice-dump-TIME.tar.gz)")
	f.StringVar(&logFile, "log", "", "file with the node's diagnostics (default: the node's standard error, if that "+
		"is a file)")
	f.BoolVar(&asJSON, "json", false, "print JSON")

	return cmd
}

// somethingToDump returns an error if the flags name neither a home, nor what is left of one, nor
// the address of a node.
func (a *app) somethingToDump() error {
	if a.address != "" || home.IsHome(a.home) {
		return nil
	}
	if _, err := os.Stat(filepath.Join(a.home, "data")); errors.Is(err, fs.ErrNotExist) {
		return exit.NoHome(a.home, home.FormatFile)
	}
	return nil
}

// dump writes the archive.
func (a *app) dump(ctx context.Context, output, logFile, name string, now time.Time) (m dump.Manifest, err error) {
	show := newProgress()
	defer show.end()

	o := dump.Options{
		Name: name, Now: now, Each: a.timeout, Secrets: dump.Spelled(a.readToken()),
		About: program() + ", home " + a.home, Begin: func(part string) { show.line("reading " + part) },
	}
	if a.address == "" {
		o.Secrets = dump.Secrets(a.home, a.secretFiles()...)
		if a.token != "" {
			o.Secrets = append(dump.Spelled(a.token), o.Secrets...)
		}
	} else {
		o.About = program() + ", node at " + a.address
	}

	parts := a.newReport(ctx, logFile).parts()
	err = writeFile(ctx, output, func(w io.Writer) error {
		m, err = dump.Write(ctx, w, parts, o)
		return err
	})

	return m, err
}

// incompleteDump prints which parts are missing, and returns the error of the command.
func incompleteDump(w io.Writer, asJSON bool, output string, m dump.Manifest) error {
	missing := m.Missing()
	byReason := map[string][]string{}
	var reasons []string // in the order of the parts

	for _, e := range m {
		if e.Missing == "" {
			continue
		}
		if byReason[e.Missing] == nil {
			reasons = append(reasons, e.Missing)
		}
		byReason[e.Missing] = append(byReason[e.Missing], e.Name)
	}

	if !asJSON {
		for _, why := range reasons {
			fmt.Fprintf(w, "coppice: missing %s: %s\n", strings.Join(byReason[why], ", "), plain.Line(why, 300))
		}
	}

	return fmt.Errorf("%s is written, but lacks %d of %d parts; its MANIFEST says why", output, len(missing), len(m))
}
