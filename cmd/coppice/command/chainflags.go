package command

import (
	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"

	"encoding/base64"
	"time"

	"github.com/spf13/cobra"
)

// chainFlags are the flags that "init" and the commands that make a testnet share.
type chainFlags struct {
	emptyEvery          time.Duration
	profile, governance string
}

func (c *chainFlags) register(cmd *cobra.Command) {
	f := cmd.Flags()
	f.DurationVar(&c.emptyEvery, "empty-every", c.emptyEvery,
		"make an empty block after this long without one; 0 is never")
	f.StringVar(&c.profile, "comet-profile", string(comethome.Tuned), "CometBFT's settings: tuned or stock")
	f.StringVar(&c.governance, "governance-key", "",
		"ed25519 public key in base64; its holder may change the validators")
	offer(cmd, "comet-profile", "tuned\tfor machines close to each other", "stock\tCometBFT's own")
}

// parse returns the profile and the governance key that the flags name.
func (c *chainFlags) parse(cmd *cobra.Command) (profile comethome.Profile, governance []byte, err error) {
	if profile, err = comethome.ParseProfile(c.profile); err != nil {
		return "", nil, usageError(cmd, "--comet-profile: %w", err)
	}
	if c.governance == "" {
		return profile, nil, nil
	}
	if governance, err = base64.StdEncoding.DecodeString(c.governance); err != nil {
		return "", nil, usageError(cmd, "--governance-key: want an ed25519 public key in base64: %w", err)
	}

	return profile, governance, nil
}
