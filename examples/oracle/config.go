package main

import (
	"fmt"
	"net/url"
	"os"
	"time"

	"github.com/coppice-go/coppice/node/exit"
)

// Config is what each node has of its own. Nodes may have different sources: they agree on what
// these say, and not on where they ask.
type Config struct {
	Source Source
	Sink   Sink
}

// The variables of a node's environment that configure it.
const (
	sourceVar = "ORACLE_SOURCE" // URL of an HTTP source; unset: the synthetic source
	sinkVar   = "ORACLE_SINK"   // directory for the reports; unset: they are printed
)

// fromEnvironment returns the configuration of this process. Its error is exit.ErrConfig.
func fromEnvironment() (Config, error) {
	c := Config{Source: Synthetic(time.Now), Sink: Print(os.Stdout)}

	if text := os.Getenv(sourceVar); text != "" {
		u, err := url.Parse(text)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			return c, fmt.Errorf("%w: %s is %q, want an http or https URL", exit.ErrConfig, sourceVar, text)
		}
		c.Source = HTTP(text)
	}
	if dir := os.Getenv(sinkVar); dir != "" {
		c.Sink = Files(dir)
	}

	return c, nil
}
