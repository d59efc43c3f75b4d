package config

// Kinds of consensus.
const (
	Solo     = "solo"     // a node without peers
	CometBFT = "cometbft" // validators that agree; the home has a CometBFT home in it
)
