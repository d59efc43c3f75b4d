package config

import (
	"fmt"
	"net/url"
	"strings"
)

// Hosts returns the names of allowed_hosts, in lower case.
func (c Config) Hosts() []string { return list(c.AllowedHosts) }

// Origins returns the origins of allowed_origins, in lower case.
func (c Config) Origins() []string { return list(c.AllowedOrigins) }

// list returns the elements of a list with commas, in lower case.
func list(text string) (elements []string) {
	for e := range strings.SplitSeq(text, ",") {
		if e = strings.ToLower(strings.TrimSpace(e)); e != "" {
			elements = append(elements, e)
		}
	}
	return elements
}

// checkHosts checks that allowed_hosts has names and nothing else.
func checkHosts(c Config) error {
	for _, h := range c.Hosts() {
		if strings.ContainsAny(h, "/*:[]@ ") {
			return fmt.Errorf("%q: want the name of a host without scheme, port and wildcards, such as node1.example",
				h)
		}
	}
	return nil
}

// checkOrigins checks that allowed_origins has origins as browsers send them.
func checkOrigins(c Config) error {
	for _, o := range c.Origins() {
		u, err := url.Parse(o)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.Scheme+"://"+u.Host != o ||
			strings.Contains(o, "*") {
			return fmt.Errorf("%q: want a whole origin without a path and without wildcards, such as "+
				"https://app.example or http://localhost:3000", o)
		}
	}
	return nil
}
