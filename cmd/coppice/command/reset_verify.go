package command

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/coppice-go/coppice/engines/consensus/comet/certificate"
	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
	"github.com/coppice-go/coppice/node/exit"
)

// trustJSON is a block that is trusted, in what "reset verify --json" prints.
type trustJSON struct {
	Epoch      uint64    `json:"epoch"`
	ChainID    string    `json:"chain_id"`
	Height     int64     `json:"height"`
	Hash       string    `json:"hash"`
	Time       time.Time `json:"time"`
	Validators int       `json:"validators"`
}

// handoverJSON is what "reset verify --json" prints.
type handoverJSON struct {
	Trusted trustJSON   `json:"trusted"`
	Epochs  []trustJSON `json:"epochs"` // the first block of each later epoch
	Newest  *trustJSON  `json:"newest,omitempty"`
}

// resetVerify is the command that carries a light client's trust over resets.
func (a *app) resetVerify() *cobra.Command {
	var trust, from, rpc string
	var period time.Duration
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Carry a light client's trust over the resets of a CometBFT chain",
		Long: `Verify carries trust in one block over all later resets, as a light client does that was away while
the chain was reset. It wants nothing but the proofs that each node keeps in comet/certificates of
its home; --from names a copy of that directory. The trusted block is the first one of an epoch, the
one that decided a reset, or the one after it: others are not kept. It prints the first block of
each later epoch, which a light client of that epoch may trust. With --rpc it also verifies the
newest block of a CometBFT's RPC.

Within an epoch it verifies as CometBFT's light client does. Over a reset it wants the certificate,
and a first block that the validators named there have signed. A forged sequence is refused with
what is wrong: the command exits 5 if the home has it, and 1 if --from or --rpc does.`,
		Example: `  coppice reset verify --trust 1:5D1F…
  coppice reset verify --trust 1:5D1F… --from certificates --rpc http://10.0.0.7:26657 --json`,
		Args: words(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			height, hash, err := parseTrust(cmd, trust)
			if err != nil {
				return err
			}
			if period < 0 {
				return usageError(cmd, "--period is %v, want 0 (any age) or more", period)
			}
			dir := from
			if dir == "" {
				if err := a.wantComet(); err != nil {
					return err
				}
				dir = comethome.CertificateDir(comethome.Dir(a.home))
			} else if _, err := os.Stat(dir); err != nil {
				return fmt.Errorf("--from: %w", err)
			}

			client := certificate.Client{Period: period}
			h, err := client.Over(cmd.Context(), dir, height, hash, rpc)
			if errors.Is(err, certificate.ErrCertificate) && from == "" && h.From.Hash == nil {
				return fmt.Errorf("%w: %w", exit.ErrDamage, err)
			}
			if err != nil {
				return err
			}

			if asJSON {
				return printJSON(cmd.OutOrStdout(), handoverOf(h))
			}
			return printHandover(cmd.OutOrStdout(), h)
		},
	}

	f := cmd.Flags()
	f.StringVar(&trust, "trust", "", "the trusted block, HEIGHT:HASH, the hash in hex")
	f.StringVar(&from, "from", "", "directory of the proofs (default: that of the home)")
	f.StringVar(&rpc, "rpc", "", "URL of a CometBFT RPC whose newest block is verified too")
	f.DurationVar(&period, "period", 0, "largest age of the trusted block; 0: any")
	f.BoolVar(&asJSON, "json", false, "print JSON")

	return cmd
}

// parseTrust returns the height and the hash of a trusted block.
func parseTrust(cmd *cobra.Command, text string) (height int64, hash []byte, err error) {
	if text == "" {
		return 0, nil, usageError(cmd, "--trust is missing: want the block that is trusted, HEIGHT:HASH")
	}

	digits, digest, _ := strings.Cut(text, ":")
	height, err = strconv.ParseInt(digits, 10, 64)
	if err != nil || height < 1 {
		return 0, nil, usageError(cmd, "--trust %s: height %q, want a number from 1 on", text, digits)
	}
	if hash, err = hex.DecodeString(digest); err != nil || len(hash) != 32 {
		return 0, nil, usageError(cmd, "--trust %s: hash %q, want 64 hex digits", text, digest)
	}

	return height, hash, nil
}

func trustOf(t certificate.Trusted) trustJSON {
	return trustJSON{Epoch: t.Epoch, ChainID: t.ChainID, Height: t.Height, Hash: fmt.Sprintf("%X", t.Hash),
		Time: t.Time, Validators: t.Validators}
}

func handoverOf(h certificate.Handover) handoverJSON {
	j := handoverJSON{Trusted: trustOf(h.From), Epochs: []trustJSON{}}
	for _, b := range h.Begins {
		j.Epochs = append(j.Epochs, trustOf(b))
	}
	if h.Newest != nil {
		newest := trustOf(*h.Newest)
		j.Newest = &newest
	}
	return j
}

// printHandover writes a line for each block that is trusted now.
func printHandover(out io.Writer, h certificate.Handover) error {
	line := func(what string, t certificate.Trusted) error {
		_, err := fmt.Fprintf(out, "%-8s %d:%X  %s, epoch %d, %s\n", what, t.Height, t.Hash, t.ChainID, t.Epoch,
			t.Time.Format(time.RFC3339Nano))
		return err
	}

	err := line("trusted", h.From)
	for _, b := range h.Begins {
		err = errors.Join(err, line("begins", b))
	}
	if h.Newest != nil {
		err = errors.Join(err, line("newest", *h.Newest))
	}

	return err
}
