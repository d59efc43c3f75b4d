// Package certificate proves the end of a CometBFT chain at a reset, and carries trust in a block
// over resets: from an epoch to the next one, as a light client needs it.
//
// To precommit the held block, which follows the decision, a validator must have committed the
// decision. So a commit of the held block says that more than two thirds of the power have it. The
// held block's header names the validators that the next epoch begins with, and the app hash of the
// state, from whose root the app hash of the next epoch follows. The first block of the next epoch,
// signed by those validators and with that app hash, says that the chain was reset there and
// nowhere else: the app hash proves no single key, so that a certificate alone could be of any
// height.
package certificate
