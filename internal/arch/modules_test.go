package arch_test

import (
	"path"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/modfile"
)

// modules returns the go.mod of each module in go.work, by its folder; the root's is ".".
func modules(t *testing.T) map[string]*modfile.File {
	t.Helper()
	dirs, err := workspace(root(t))
	if err != nil {
		t.Fatal(err)
	}

	files := map[string]*modfile.File{}

	for _, dir := range dirs {
		name := path.Join(dir, "go.mod")
		if files[dir], err = modfile.Parse(name, []byte(read(t, name)), nil); err != nil {
			t.Fatal(err)
		}
	}

	return files
}

// moduleOf returns the folder of the module that holds dir.
func moduleOf(dir string, files map[string]*modfile.File) string {
	best := "."
	for m := range files {
		if within(dir, m) && len(m) > len(best) {
			best = m
		}
	}
	return best
}

// A replace or an exclude is for the main module only: who imports ours would not get it, and `go
// install …@version` refuses it.
func TestNoReplace(t *testing.T) {
	for dir, m := range modules(t) {
		if len(m.Replace)+len(m.Exclude) > 0 {
			t.Errorf("%s/go.mod replaces or excludes a module", dir)
		}
	}
}

// The path of a module is that of its folder, and a library asks for no newer Go than it needs.
func TestModulesAreDeclared(t *testing.T) {
	for dir, m := range modules(t) {
		if want := path.Join(module, dir); m.Module.Mod.Path != want {
			t.Errorf("%s/go.mod declares %s, want %s", dir, m.Module.Mod.Path, want)
		}
		if dir != "." && (m.Go.Version != "1.25" || m.Toolchain != nil) {
			t.Errorf("%s/go.mod must say go 1.25 and name no toolchain: it raises nobody's version", dir)
		}
	}
}

// In the checkout go.work provides every module of ours. Outside of it, only what go.mod requires
// is there: what a library module imports, tests included, is in it or in a module that it
// requires. None requires the root module, which would bring everything.
func TestModulesStandAlone(t *testing.T) {
	files := modules(t)

	for dir, m := range files {
		for _, r := range m.Require {
			if r.Mod.Path == module {
				t.Errorf("%s/go.mod requires the root module", dir)
			}
		}
	}

	for _, f := range goFiles(t) {
		own := moduleOf(f.dir, files)

		for _, imp := range f.imports {
			if !strings.Contains(strings.Split(imp, "/")[0], ".") {
				continue // the standard library
			}
			if within(imp, module) && moduleOf(strings.TrimPrefix(strings.TrimPrefix(imp, module), "/"), files) == own {
				continue
			}

			required := false
			for _, r := range files[own].Require {
				required = required || within(imp, r.Mod.Path)
			}
			if !required {
				t.Errorf("%s imports %s, which is not of a module that %s/go.mod requires", f.path, imp, own)
			}
		}
	}
}

// All modules of ours are required at one version, and go.work has that version in the checkout.
func TestOneVersionOfOurs(t *testing.T) {
	work, err := modfile.ParseWork("go.work", []byte(read(t, "go.work")), nil)
	if err != nil {
		t.Fatal(err)
	}

	versions := map[string]string{} // those that go.work replaces
	for _, r := range work.Replace {
		if within(r.Old.Path, module) {
			versions[r.Old.Path] = r.Old.Version
			if dir := strings.TrimPrefix(r.Old.Path, module+"/"); filepath.ToSlash(filepath.Clean(r.New.Path)) != dir {
				t.Errorf("go.work replaces %s by %s", r.Old.Path, r.New.Path)
			}
		}
	}

	for dir, m := range modules(t) {
		for _, r := range m.Require {
			if within(r.Mod.Path, module) && r.Mod.Version != versions[r.Mod.Path] {
				t.Errorf("%s/go.mod requires %s, go.work replaces version %q of it", dir, r.Mod, versions[r.Mod.Path])
			}
		}
	}
}
