package command

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/coppice-go/coppice/internal/durable"
	"github.com/coppice-go/coppice/node/home"
)

// validatorsKeygen is the command that makes a governance key.
func (a *app) validatorsKeygen() *cobra.Command {
	return &cobra.Command{
		Use:   "keygen FILE",
		Short: "Make a governance key, and print its public key",
		Long: `Keygen writes a new ed25519 key to a file that only the user can read, as the base64 of its seed,
and prints the public key. It overwrites nothing. The holder of the file may change the validators
of every chain whose genesis names the key.`,
		Example: "  coppice init --consensus cometbft --governance-key $(coppice validators keygen governance.key)",
		Args:    words("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			public, private, err := ed25519.GenerateKey(rand.Reader)
			if err != nil {
				return err
			}

			if err := durable.OS.WriteNew(args[0], []byte(home.SeedText(private)), 0o600); err != nil {
				return err
			}
			if err := durable.OS.SyncDir(filepath.Dir(args[0])); err != nil {
				return err
			}

			_, err = fmt.Fprintln(cmd.OutOrStdout(), base64.StdEncoding.EncodeToString(public))

			return err
		},
	}
}
