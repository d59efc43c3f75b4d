package command

import (
	"errors"
	"strings"

	"github.com/spf13/cobra"

	"github.com/coppice-go/coppice/node/config"
)

// settingFlags holds what the flags set in the configuration, in the order of the command line.
type settingFlags []config.Assignment

// register adds --set, which sets any key, and the flags of the keys that have one of their own.
func (s *settingFlags) register(cmd *cobra.Command) {
	f := cmd.Flags()
	f.Var(&setFlag{into: s}, "set", "set a key of the configuration; may be repeated (see 'coppice config "+
		"explain')")
	if err := cmd.RegisterFlagCompletionFunc("set", completeAssignment); err != nil {
		panic(err) // the flag was added just above
	}

	for _, k := range config.Keys() {
		if k.Flag == "" {
			continue
		}
		doc, _, _ := strings.Cut(k.Doc, ". ")
		doc = strings.ToLower(doc[:1]) + strings.TrimSuffix(doc[1:], ".")
		added := f.VarPF(&setFlag{into: s, key: k}, k.Flag, "", doc+" ("+k.Name+")")
		if k.Type() == "boolean" {
			added.NoOptDefVal = "true"
		}
		if values := valuesOf(k); len(values) > 0 {
			offer(cmd, k.Flag, values...)
		}
	}
}

// setFlag is the flag of a key, or --set if it has no key.
type setFlag struct {
	into *settingFlags
	key  config.Key
}

// Set implements pflag.Value.
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

// String implements pflag.Value. It shows no default, because other layers may have set the key.
func (f *setFlag) String() string { return "" }

// Type implements pflag.Value. It returns what the help shows for the value.
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
