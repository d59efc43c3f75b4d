package exit

import (
	"errors"

	"github.com/coppice-go/coppice/engines/consensus/comet"
)

// cometDamage tells whether an error of the driver's is one of lost data.
func cometDamage(err error) bool {
	return errors.Is(err, comet.ErrChainData) || errors.Is(err, comet.ErrChainDamage) ||
		errors.Is(err, comet.ErrSigning)
}

// cometConfigError tells whether an error of the driver's is one of configuration.
func cometConfigError(err error) bool {
	return errors.Is(err, comet.ErrHome) || errors.Is(err, comet.ErrGenesis)
}

// cometFinal tells whether an error of the driver's is one that no restart mends.
func cometFinal(err error) bool { return errors.Is(err, comet.ErrFinal) }
