package command

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
)

// hows maps each value of --how to the way to kill that it means.
var hows = map[string]apiv1.How{
	"error": apiv1.How_HOW_ERROR, "panic": apiv1.How_HOW_PANIC, "goexit": apiv1.How_HOW_GOEXIT,
	"hang": apiv1.How_HOW_HANG,
	"stop": apiv1.How_HOW_STOP,
}

// killJSON is what "kill --json" prints.
type killJSON struct {
	Path        string `json:"path"`
	How         string `json:"how"`
	Incarnation uint64 `json:"incarnation"`
	Type        string `json:"type"`
}

func (a *app) killCommand() *cobra.Command {
	var how string
	var release time.Duration
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "kill PATH",
		Short: "Kill a child of the node's tree, to see it grow back",
		Long: `Kill ends one incarnation of a child, and returns once the child was hit. Its supervisor decides
what is restarted: see 'coppice tree --spec'. The ways to end a child:

  error   the child is told to stop, and has then ended abnormally, as if it had returned an error
          (the default)
  panic   it panics, in its own goroutine
  goexit  its goroutine ends without returning, by runtime.Goexit
  hang    it handles no message and ignores being told to stop, until --release has passed; if that
          is longer than its shutdown time, it becomes an orphan and its orphan policy applies
  stop    for supervisors, where it is the default: an ordered stop of everything below, for an
          abnormal reason

A last element * in PATH selects any living child there. "coppice" is the root of the engines: its
end ends the process, which exits 6. The host above it cannot be killed. Kill needs the admin
token, which it reads from the home.`,
		Example: `  coppice kill coppice/node/router
  coppice kill coppice/node/transactions/storage --how panic
  coppice kill coppice/node/transactions/mempool/pool --how hang --release 2s
  coppice kill 'coppice/node/transactions/mempool/workers/*'
  coppice kill coppice/node/transactions --how stop`,
		Args:              words("PATH"),
		ValidArgsFunction: a.completePath,
		RunE: func(cmd *cobra.Command, args []string) error {
			h, ok := hows[how]
			if how != "" && !ok {
				return usageError(cmd, "--how is %q, want error, panic, goexit, hang or stop", how)
			}
			if cmd.Flags().Changed("release") && release <= 0 {
				return usageError(cmd, "--release is %v, want more than 0", release)
			}
			if release != 0 && h != apiv1.How_HOW_HANG {
				return usageError(cmd, "--release goes with --how hang")
			}
			ctx, cancel, c, err := a.dial(cmd.Context())
			if err != nil {
				return err
			}
			defer cancel()

			if how == "" {
				t, err := c.Tree(ctx)
				if err != nil {
					return a.nodeError(ctx, err)
				}
				h = defaultHow(t.Root, args[0])
			}

			k, err := c.Kill(ctx, args[0], h, release)
			if err != nil {
				return a.nodeError(ctx, err)
			}

			if asJSON {
				return printJSON(cmd.OutOrStdout(),
					killJSON{k.Path, enumWord(k.How, "HOW_"), k.Incarnation, enumWord(k.Type, "CHILD_TYPE_")})
			}

			_, err = fmt.Fprintf(cmd.OutOrStdout(), "killed %s #%d by %s\n", k.Path, k.Incarnation,
				enumWord(k.How, "HOW_"))

			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&how, "how", "", "error, panic, goexit, hang, or stop for a supervisor (default: error, or stop)")
	f.DurationVar(&release, "release", 0, "with --how hang: after how long the child is released (default: 2s)")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	offer(cmd, "how", "error\tit returns an error", "panic\tit panics", "goexit\tits goroutine ends",
		"hang\tit ignores everything until it is released", "stop\ta supervisor stops in order")

	return cmd
}

// defaultHow returns stop for a supervisor, and error for any other child.
func defaultHow(root *apiv1.Child, path string) apiv1.How {
	if c := find(root, path); c.GetType() == apiv1.ChildType_CHILD_TYPE_SUPERVISOR {
		return apiv1.How_HOW_STOP
	}
	return apiv1.How_HOW_ERROR
}

// find returns the child at a path, or nil.
func find(c *apiv1.Child, path string) *apiv1.Child {
	if c == nil || c.Path == path {
		return c
	}
	i := slices.IndexFunc(c.Children, func(child *apiv1.Child) bool {
		return child.Path == path || strings.HasPrefix(path, child.Path+"/")
	})

	if i < 0 {
		return nil
	}
	return find(c.Children[i], path)
}
