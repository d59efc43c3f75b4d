package arch_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root(t), name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// directRequires are the modules of others that a go.mod requires by itself, each with the folder
// of one that does.
func directRequires(t *testing.T) map[string]string {
	t.Helper()
	direct := map[string]string{}

	for dir, m := range modules(t) {
		for _, r := range m.Require {
			if !r.Indirect && !within(r.Mod.Path, module) {
				direct[r.Mod.Path] = dir
			}
		}
	}

	if len(direct) == 0 {
		t.Fatal("no direct requires found")
	}

	return direct
}

// Whoever adds a dependency says why, and what else there was; whoever drops one drops its reason.
func TestDependenciesHaveReasons(t *testing.T) {
	documented := map[string]string{}
	for line := range strings.Lines(read(t, "docs/dependencies.md")) {
		if m := regexp.MustCompile("^\\| `([^`]+)` \\|([^|]+)\\|([^|]+)\\|").FindStringSubmatch(line); m != nil {
			documented[m[1]] = strings.TrimSpace(m[2])
		}
	}

	for mod, dir := range directRequires(t) {
		if len(documented[mod]) < 20 {
			t.Errorf("%s/go.mod requires %s, and docs/dependencies.md has no reason for it", dir, mod)
		}
		delete(documented, mod)
	}

	for mod := range documented {
		t.Errorf("docs/dependencies.md gives a reason for %s, which no go.mod requires", mod)
	}
}

func TestDecisionsAreListed(t *testing.T) {
	index := read(t, "docs/adr/README.md")
	files, err := filepath.Glob(filepath.Join(root(t), "docs/adr/[0-9]*.md"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no decisions found (%v)", err)
	}

	numbers := map[string]string{}

	for _, f := range files {
		name := filepath.Base(f)
		if !strings.Contains(index, "("+name+")") {
			t.Errorf("docs/adr/README.md does not list %s", name)
		}
		if other := numbers[name[:4]]; other != "" {
			t.Errorf("%s and %s have the same number", other, name)
		}
		numbers[name[:4]] = name
	}
}

// Links to files of the repository lead somewhere.
func TestLinksLead(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#:\s]+)(#[^)]*)?\)`)
	docs := []string{"README.md", "CHANGELOG.md"}
	more, err := filepath.Glob(filepath.Join(root(t), "docs", "*.md"))
	if err != nil {
		t.Fatal(err)
	}

	for _, m := range more {
		docs = append(docs, "docs/"+filepath.Base(m))
	}

	for _, doc := range docs {
		for _, m := range link.FindAllStringSubmatch(read(t, doc), -1) {
			if _, err := os.Stat(filepath.Join(root(t), filepath.Dir(doc), m[1])); err != nil {
				t.Errorf("%s: the link to %s leads nowhere", doc, m[1])
			}
		}
	}
}

// Documents that comments cite are there.
func TestCitedDocumentsExist(t *testing.T) {
	cited := regexp.MustCompile(`docs/(adr/\d{4}|[a-z-]+\.md)`)
	for _, f := range goFiles(t) {
		for _, name := range cited.FindAllString(f.text, -1) {
			pattern := filepath.Join(root(t), name)
			if !strings.HasSuffix(name, ".md") {
				pattern += "-*.md"
			}
			if found, err := filepath.Glob(pattern); err != nil || len(found) != 1 {
				t.Errorf("%s cites %s: %d such documents (%v)", f.path, name, len(found), err)
			}
		}
	}
}
