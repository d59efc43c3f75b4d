package main

import (
	"errors"
	"strings"

	"github.com/spf13/cobra"

	"github.com/coppice-go/coppice/node/config"
)

// settingFlags are the flags that set keys of the configuration, in the order in which they were
// given.
type settingFlags []config.Assignment

// register adds --set for every key, and the flags of those keys that have one of their own.
func (s *settingFlags) register(cmd *cobra.Command) {
	f := cmd.Flags()
	f.Var(&setFlag{into: s}, "set", "value of a key, as KEY=VALUE; may be given many times (see 'coppice "+
		"config explain')")

	for _, k := range config.Keys() {
		if k.Flag == "" {
			continue
		}
		doc, _, _ := strings.Cut(k.Doc, ". ")
		added := f.VarPF(&setFlag{into: s, key: k}, k.Flag, "", strings.TrimSuffix(doc, ".")+" ("+k.Name+")")
		if k.Type() == "boolean" {
			added.NoOptDefVal = "true"
		}
	}
}

// setFlag is one flag; without a key it is --set.
type setFlag struct {
	into *settingFlags
	key  config.Key
}

// Set is pflag.Value's.
func (f *setFlag) Set(v string) error {
	if f.key.Name != "" {
		*f.into = append(*f.into, config.Assignment{Key: f.key.Name, Value: v, Flag: "--" + f.key.Flag})
		return nil
	}

	key, value, ok := strings.Cut(v, "=")
	if !ok {
		return errors.New("want KEY=VALUE")
	}

	*f.into = append(*f.into, config.Assignment{Key: key, Value: value, Flag: "--set"})

	return nil
}

// String is pflag.Value's: there is no default to show, since other layers may have one.
func (f *setFlag) String() string { return "" }

// Type is pflag.Value's: what help shows for the value.
func (f *setFlag) Type() string {
	switch {
	case f.key.Name == "":
		return "KEY=VALUE"
	case f.key.Type() == "boolean":
		return ""
	case len(f.key.OneOf) > 0:
		return strings.Join(f.key.OneOf, "|")
	}
	return f.key.Unit
}
