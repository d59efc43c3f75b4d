package command

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/coppice-go/coppice/node/inspect"
)

// profileJSON is what "debug profile --json" prints.
type profileJSON struct {
	File     string      `json:"file,omitempty"`
	Seconds  float64     `json:"seconds"`
	Children []shareJSON `json:"children"`
}

type shareJSON struct {
	Path    string  `json:"path"` // empty: outside of the tree
	Seconds float64 `json:"cpu_seconds"`
	Share   float64 `json:"share"`
}

func (a *app) debugProfileCommand() *cobra.Command {
	var output string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "profile",
		Short: "Measure what each child of a running node costs the processors",
		Long: `Profile lets the running node measure what its processors do for five seconds, and prints the time
of each child of the tree, the largest first. It needs the admin token.

With --output, the profile is also written to a file, for 'go tool pprof'. Its samples have the path
of the child in the label supervisor.child: 'go tool pprof -tags FILE' sums them up.`,
		Example: `  coppice debug profile
  coppice debug profile --output cpu.pb.gz
  coppice debug profile --json`,
		Args: words(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeoutCause(cmd.Context(), a.timeout+inspect.ProfileTime,
				fmt.Errorf("no answer within %v", a.timeout+inspect.ProfileTime))
			defer cancel()

			c := a.client()
			defer c.CloseIdle()
			part, err := c.Inspect(ctx, inspect.CPUProfile)
			if err != nil {
				return a.nodeError(ctx, err)
			}
			if part.LeftOut > 0 {
				return fmt.Errorf("the profile is too long by %d bytes", part.LeftOut)
			}

			shares, err := inspect.SharesOf(part.Data)
			if err != nil {
				return err
			}
			if output != "" {
				if err := writeFile(cmd.Context(), output, func(w io.Writer) error {
					_, err := w.Write(part.Data)
					return err
				}); err != nil {
					return err
				}
			}

			if !asJSON {
				return inspect.WriteShares(cmd.OutOrStdout(), shares)
			}
			out := profileJSON{File: output, Seconds: inspect.ProfileTime.Seconds(), Children: []shareJSON{}}
			for _, s := range shares {
				spent := s.Time.Round(time.Millisecond).Seconds()
				out.Children = append(out.Children, shareJSON{s.Child, spent, s.Part})
			}
			return printJSON(cmd.OutOrStdout(), out)
		},
	}
	f := cmd.Flags()
	f.StringVar(&output, "output", "", "file to write the profile to; it must not exist")
	f.BoolVar(&asJSON, "json", false, "print JSON")

	return cmd
}
