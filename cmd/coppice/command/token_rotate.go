package command

import (
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/coppice-go/coppice/node/api"
	"github.com/coppice-go/coppice/node/home"
)

// levels are the names by which the command line knows the tokens: those of their files.
func levels() []string {
	names := make([]string, len(api.Levels))
	for i, a := range api.Levels {
		names[i] = strings.TrimSuffix(a.File(), filepath.Ext(a.File()))
	}
	return names
}

// rotatedJSON is how "token rotate --json" reports what it did. It has no token in it.
type rotatedJSON struct {
	Token   string     `json:"token"` // admin, submit or read
	File    string     `json:"file"`
	Expires *time.Time `json:"old_expires,omitempty"`
}

func (a *app) tokenRotateCommand() *cobra.Command {
	var grace time.Duration
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "rotate",
		Short: "Put a new token in the place of one: admin, submit or read",
		Long: `Rotate writes a new token into the file of the home. A running node has it when rotate
returns, without a restart. For the time of --grace it accepts the old token too, so that clients
can change over. With --grace 0s, which is for a token that leaked, it refuses the old one, and one
that was replaced before.

The old token and its end are in the file with the suffix .old; to refuse that token earlier, remove
the file. If the home has no such token yet, rotate makes it.`,
		Example: `  coppice token rotate submit
  coppice token rotate admin --grace 0s`,
		ValidArgs: levels(),
		Args:      oneLevel,
		RunE: func(cmd *cobra.Command, args []string) error {
			if grace < 0 {
				return usageError(cmd, "--grace is %v, want 0s or more", grace)
			}

			level := levelOf(args[0])
			path, expires, err := home.RotateToken(a.home, level, grace)
			if err != nil {
				return err
			}

			time.Sleep(home.FollowTokens) // then a running node has it

			out := cmd.OutOrStdout()
			if asJSON {
				r := rotatedJSON{Token: args[0], File: path}
				if !expires.IsZero() {
					r.Expires = &expires
				}
				return printJSON(out, r)
			}

			until := "no older one is valid"
			switch {
			case !expires.IsZero():
				until = "the old one is valid until " + expires.Format(time.RFC3339)
			case grace > 0:
				until = "its file was missing, so the old one has no grace: clients must take the new one now"
			}
			_, err = fmt.Fprintf(out, "the new %v token is in %s; %s\n", level, path, until)

			return err
		},
	}
	cmd.Flags().DurationVar(&grace, "grace", time.Hour, "how long the old token stays valid")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")

	return cmd
}

// levelOf returns the level with the given name.
func levelOf(name string) api.Access {
	for i, n := range levels() {
		if n == name {
			return api.Levels[i]
		}
	}
	return 0
}

// oneLevel is the Args of a command that takes the name of a token.
func oneLevel(cmd *cobra.Command, args []string) error {
	if len(args) != 1 || levelOf(args[0]) == 0 {
		return fmt.Errorf("%q: want one of %s", strings.Join(args, " "), strings.Join(levels(), ", "))
	}
	return nil
}
