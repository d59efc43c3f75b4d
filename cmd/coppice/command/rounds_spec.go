package command

import (
	"fmt"

	"github.com/spf13/cobra"
)

func (a *app) roundsSpec() *cobra.Command {
	var mermaid bool
	cmd := &cobra.Command{
		Use:   "spec",
		Short: "Print the specification of the program's service",
		Long: `Spec prints the composed service as one fsm_specification in YAML: its states, events and
transitions. With --mermaid it prints a state diagram of the apps and the links between them.`,
		Example: `  coppice rounds spec > fsm_specification.yaml
  coppice rounds spec --mermaid`,
		Args:        words(),
		Annotations: map[string]string{homeUse: homeUnused},
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := a.program.rounds()
			if err != nil {
				return err
			}

			text := r.service.YAML()
			if mermaid {
				text = r.service.Mermaid()
			}
			_, err = fmt.Fprint(cmd.OutOrStdout(), text)

			return err
		},
	}
	cmd.Flags().BoolVar(&mermaid, "mermaid", false, "print a state diagram for Mermaid")
	return cmd
}
