package command

import (
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
)

func (a *app) streamsExempt() *cobra.Command {
	var most time.Duration
	cmd := &cobra.Command{
		Use:     "exempt NAME --for DURATION",
		Short:   "Let blocks pass the gates without a stream for a time",
		Example: "  coppice streams exempt ledger --for 30m\n  coppice streams exempt ledger --for 0s",
		Args:    words("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if most < 0 {
				return usageError(cmd, "--for is %v, want 0 (ends it) or more", most)
			}
			done := "exempt for " + most.String()
			if most == 0 {
				done = "no longer exempt"
			}
			return a.act(cmd, &apiv1.ActOnStreamRequest{Name: args[0],
				Act: &apiv1.ActOnStreamRequest_Exempt{Exempt: durationpb.New(most)}}, done)
		},
	}
	cmd.Flags().DurationVar(&most, "for", 0, "how long; 0 ends it")
	cmd.MarkFlagRequired("for")
	return cmd
}
