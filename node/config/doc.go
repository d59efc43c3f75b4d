// Package config is a node's configuration: its keys with their meanings, units and bounds, the
// layers that give them values (defaults, coppice.toml, the environment, flags), and the messages
// about invalid values.
package config
