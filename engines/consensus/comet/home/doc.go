// Package home handles the CometBFT home in the home of a node: its configuration, keys and
// genesis; how it is made, imported and joined to a chain; which defects would keep CometBFT from
// starting; and the directory of its sockets. It starts nothing.
//
// The process of CometBFT and the node share such a home. CometBFT judges many settings, keys and
// addresses only when it uses them. This package judges them before (Preflight), so that a start is
// refused with a reason instead of failing again and again.
//
// Importers call the package comethome, because so many variables are named home.
package home
