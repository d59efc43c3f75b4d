package command

import (
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/coppice-go/coppice/node/api"
	"github.com/coppice-go/coppice/node/dashboard"
	"github.com/coppice-go/coppice/node/home"
)

// dashboardCommand is the command that prints a link to the node's dashboard.
func (a *app) dashboardCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "dashboard",
		Short: "Print a link to the node's dashboard that works once",
		Long: `Dashboard prints a link to the pages about the node. For twelve hours its holder may look, from
other machines too. If coppice.toml has dashboard = "full", the holder may also kill children,
change the level of the diagnostics and download a diagnosis. The link works once, within five
minutes. On the node's machine, /dashboard/ shows the node without it.`,
		Example: "  coppice dashboard",
		Args:    words(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			address, err := a.resolve()
			if err != nil {
				return a.nodeError(cmd.Context(), err)
			}

			secret := a.token
			if secret == "" {
				if secret, err = home.ReadToken(filepath.Join(a.home, api.TokenFileName)); err != nil {
					return err
				}
			}
			if !strings.Contains(address, "://") {
				address = "http://" + address
			}

			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s%slogin#%s\n", strings.TrimSuffix(address, "/"), dashboard.Path,
				dashboard.Code(secret, time.Now()))
			return err
		},
	}
}
