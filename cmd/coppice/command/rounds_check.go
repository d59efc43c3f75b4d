package command

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"
)

func (a *app) roundsCheck() *cobra.Command {
	return &cobra.Command{
		Use:   "check",
		Short: "Check the tables of the program's service",
		Long: `Check looks for faults in the tables of the service: an event without a transition, a round that is
never reached, a timeout that nothing names, a link that does not lead from an end to a start, and
so on. It names each fault with its app, round and event, and what to do. It exits 1 if there is
one. A node refuses to start with a service that has a fault.`,
		Example:     "  coppice rounds check",
		Args:        words(),
		Annotations: map[string]string{homeUse: homeUnused},
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := a.program.rounds()
			if err != nil {
				return err
			}

			var faults []error
			for _, f := range r.service.Check() {
				faults = append(faults, f)
			}
			if len(faults) > 0 {
				return fmt.Errorf("%s has %d faults:\n%w", r.service.Label(), len(faults), errors.Join(faults...))
			}

			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s has no fault\n", r.service.Label())
			return err
		},
	}
}
