package readme_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// block is a fenced block of the README.
type block struct {
	lang string
	line int // number of the first line of its content
	text string
}

func root(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func readme(t *testing.T) []block {
	t.Helper()
	return blocksOf(t, "README.md")
}

func blocksOf(t *testing.T, path string) []block {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root(t), path))
	if err != nil {
		t.Fatal(err)
	}
	blocks, err := parse(string(text))
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}

	return blocks
}

// parse returns the fenced blocks of a Markdown text. A fence that is not closed, or names no
// language, is an error: nothing would run its commands.
func parse(text string) ([]block, error) {
	var blocks []block
	open := -1
	n := 0

	for line := range strings.Lines(text) {
		n++
		fence, ok := strings.CutPrefix(line, "```")
		switch {
		case ok && open < 0:
			lang := strings.TrimSpace(fence)
			if lang == "" {
				return nil, fmt.Errorf("line %d: a block without a language", n)
			}
			blocks = append(blocks, block{lang: lang, line: n + 1})
			open = len(blocks) - 1

		case ok:
			open = -1

		case open >= 0:
			blocks[open].text += line
		}
	}

	if open >= 0 {
		return nil, fmt.Errorf("line %d: a block that is not closed", blocks[open].line-1)
	}

	return blocks, nil
}

func TestParse(t *testing.T) {
	blocks, err := parse("a\n```sh\nx\ny\n```\nb\n```go\nz\n```\n")
	if err != nil || len(blocks) != 2 || blocks[0] != (block{"sh", 3, "x\ny\n"}) ||
		blocks[1] != (block{"go", 8, "z\n"}) {
		t.Errorf("%v, %v", blocks, err)
	}

	if _, err := parse("```\nx\n```\n"); err == nil {
		t.Error("a block without a language must be an error")
	}
	if _, err := parse("```sh\nx\n"); err == nil {
		t.Error("a block that is not closed must be an error")
	}
}

// The README's program is examples/embed, which is compiled and run by its own test.
func TestGoBlockIsTheExample(t *testing.T) {
	example, err := os.ReadFile(filepath.Join(root(t), "examples/embed/main.go"))
	if err != nil {
		t.Fatal(err)
	}

	found := 0
	for _, b := range readme(t) {
		if b.lang != "go" {
			continue
		}
		found++
		if !strings.Contains(string(example), b.text) {
			t.Errorf("README.md:%d: the Go block is not a part of examples/embed/main.go; copy it from there", b.line)
		}
	}

	if found == 0 {
		t.Error("the README has no Go block")
	}
}
