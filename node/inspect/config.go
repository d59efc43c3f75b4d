package inspect

import (
	"context"
	"io"

	"github.com/coppice-go/coppice/node/config"
)

// settingJSON is an element of the part config.json.
type settingJSON struct {
	Key   string `json:"key"`
	Value any    `json:"value"`
}

// Config returns the part about the configuration in force, without secrets.
func Config(c config.Config) Part {
	return Part{"config.json", func(_ context.Context, w io.Writer) error {
		all := []settingJSON{}
		for _, k := range config.Keys() {
			v := k.Value(c)
			if s, ok := v.(string); ok {
				v = RedactValue(k.Name, s)
			}
			all = append(all, settingJSON{k.Name, v})
		}
		return JSON(w, all)
	}}
}
