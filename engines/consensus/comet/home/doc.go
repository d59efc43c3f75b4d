// Package home is the CometBFT home in the home of a node: its configuration, keys and genesis, how
// it is made, imported and joined to a chain, what of it would keep CometBFT from starting, and the
// directory of its sockets. It starts nothing.
//
// The process of CometBFT and the node share such a home. Where CometBFT judges a setting, a key or
// an address only when it uses it, this package judges it before (Preflight), so that a start is
// refused with a reason instead of failing again and again.
//
// Importers call the package comethome, because so many variables are named home.
package home
