// Command releasecheck tries a release before it is tagged. It builds the zip of each module of a
// commit, as the module proxy would, and serves the zips from a directory. It then does what users
// do: it installs the program, and adds each library to an empty module outside of the repository.
// For each it prints the modules that `go list -m all` names. See docs/releasing.md.
package main

import (
	stdzip "archive/zip"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
	"golang.org/x/mod/zip"
)

const root = "github.com/coppice-go/coppice"

func main() {
	commit := flag.String("commit", "HEAD", "the `commit` that would be tagged")
	version := flag.String("version", "v0.1.0", "`version` of the modules that no other one requires")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: releasecheck [flags] [library ...]\n\n"+
			"A library is a package below "+root+"; without any, each library module is tried.")
		flag.PrintDefaults()
	}
	flag.Parse()

	if err := check(*commit, *version, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "releasecheck:", err)
		os.Exit(1)
	}
}

func check(commit, version string, libraries []string) error {
	dir, err := os.MkdirTemp("", "releasecheck")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)

	source := filepath.Join(dir, "source")
	if err := export(commit, source, filepath.Join(dir, "source.zip")); err != nil {
		return err
	}
	mods, err := published(source, version)
	if err != nil {
		return err
	}

	for _, m := range mods {
		if err := publish(m, source, filepath.Join(dir, "proxy")); err != nil {
			return fmt.Errorf("%s: %w", m, err)
		}
		fmt.Println("published", m)
	}

	g, err := newGo(dir)
	if err != nil {
		return err
	}
	if len(libraries) == 0 {
		for _, m := range mods {
			if m.Path != root {
				libraries = append(libraries, strings.TrimPrefix(m.Path, root+"/"))
			}
		}
	}

	for i, lib := range libraries {
		m := holder(mods, path.Join(root, lib))
		if err := g.embed(filepath.Join(dir, fmt.Sprint("embed", i)), m, lib); err != nil {
			return err
		}
	}

	return g.install(dir, holder(mods, root))
}

// export writes the files of a commit to dir.
func export(commit, dir, archive string) error {
	top, err := exec.Command("git", "rev-parse", "--show-toplevel").Output()
	if err != nil {
		return fmt.Errorf("git rev-parse: %w", err)
	}

	cmd := exec.Command("git", "archive", "--format=zip", "-o", archive, commit)
	cmd.Dir, cmd.Stderr = strings.TrimSpace(string(top)), os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("git archive %s: %w", commit, err)
	}

	files, err := stdzip.OpenReader(archive)
	if err != nil {
		return err
	}
	defer files.Close()

	return os.CopyFS(dir, files)
}

// published returns the modules of a checkout that others can require, each at the version that the
// other modules of the checkout require. It leaves out a module with replace directives, which
// works only in the checkout.
func published(source, version string) ([]module.Version, error) {
	var files []*modfile.File
	required := map[string]string{}

	err := filepath.WalkDir(source, func(name string, d os.DirEntry, err error) error {
		if err != nil || d.Name() != "go.mod" {
			return err
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		f, err := modfile.Parse(name, text, nil)
		if err != nil || len(f.Replace) > 0 {
			return err
		}

		files = append(files, f)

		for _, r := range f.Require {
			if r.Mod.Path != root && !strings.HasPrefix(r.Mod.Path, root+"/") {
				continue
			}
			if old := required[r.Mod.Path]; old != "" && old != r.Mod.Version {
				return fmt.Errorf("%s is required at %s and at %s", r.Mod.Path, old, r.Mod.Version)
			}
			required[r.Mod.Path] = r.Mod.Version
		}

		return nil
	})
	if err != nil {
		return nil, err
	}

	var mods []module.Version
	for _, f := range files {
		m := module.Version{Path: f.Module.Mod.Path, Version: version}
		if v := required[m.Path]; v != "" {
			m.Version = v
		}
		mods = append(mods, m)
	}

	return mods, nil
}

// publish writes a module to a directory in the form of the module proxy.
func publish(m module.Version, source, proxy string) error {
	dir := filepath.Join(source, strings.TrimPrefix(m.Path, root))
	mod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	if err != nil {
		return err
	}
	at := filepath.Join(proxy, m.Path, "@v")
	if err := os.MkdirAll(at, 0o755); err != nil {
		return err
	}
	info := fmt.Sprintf(`{"Version":%q,"Time":%q}`, m.Version, time.Now().UTC().Format(time.RFC3339))

	for name, text := range map[string]string{"list": m.Version + "\n", m.Version + ".info": info,
		m.Version + ".mod": string(mod)} {
		if err := os.WriteFile(filepath.Join(at, name), []byte(text), 0o644); err != nil {
			return err
		}
	}

	z, err := os.Create(filepath.Join(at, m.Version+".zip"))
	if err != nil {
		return err
	}

	return errors.Join(zip.CreateFromDir(z, m, dir), z.Close())
}

// holder returns the module in mods that contains the package pkg.
func holder(mods []module.Version, pkg string) (best module.Version) {
	for _, m := range mods {
		if (pkg == m.Path || strings.HasPrefix(pkg, m.Path+"/")) && len(m.Path) > len(best.Path) {
			best = m
		}
	}
	return best
}

// goCommand runs the go command as a user outside of the repository does.
type goCommand struct{ env []string }

// newGo returns a go command that finds our modules in dir/proxy. Other modules come from the
// downloads of this machine, and then from the configured proxy. The command leaves nothing in the
// module cache.
func newGo(dir string) (goCommand, error) {
	out, err := exec.Command("go", "env", "GOMODCACHE", "GOPROXY").Output()
	if err != nil {
		return goCommand{}, fmt.Errorf("go env: %w", err)
	}
	configured := strings.Fields(string(out))
	if len(configured) != 2 {
		return goCommand{}, fmt.Errorf("go env GOMODCACHE GOPROXY: %q", out)
	}

	return goCommand{append(os.Environ(),
		"GOPROXY=file://"+filepath.Join(dir, "proxy")+",file://"+filepath.Join(configured[0], "cache/download")+","+
			configured[1],
		"GONOSUMDB="+root+","+root+"/*", "GOPRIVATE=", "GOWORK=off", "GOFLAGS=-modcacherw -trimpath",
		"GOMODCACHE="+filepath.Join(dir, "modcache"), "GOBIN="+filepath.Join(dir, "bin"))}, nil
}

func (g goCommand) run(dir string, args ...string) (string, error) {
	cmd := exec.Command("go", args...)
	cmd.Dir, cmd.Env = dir, g.env
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, said.String())
	}
	return string(out), nil
}

// embed adds a library to an empty module, builds a program that imports it, and prints the modules
// that came with it.
func (g goCommand) embed(dir string, m module.Version, library string) error {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	program := fmt.Sprintf("package main\n\nimport _ %q\n\nfunc main() {}\n", path.Join(root, library))
	if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte(program), 0o644); err != nil {
		return err
	}

	for _, args := range [][]string{{"mod", "init", "example.com/embed"}, {"get", m.String()}, {"mod", "tidy"},
		{"build", "-o", os.DevNull, "."}} {
		if _, err := g.run(dir, args...); err != nil {
			return fmt.Errorf("%s: %w", library, err)
		}
	}

	all, err := g.run(dir, "list", "-m", "all")
	if err != nil {
		return err
	}
	linked, err := g.run(dir, "list", "-deps", "-f", "{{with .Module}}{{.Path}}{{end}}", ".")
	if err != nil {
		return err
	}

	modules := strings.Split(strings.TrimSpace(all), "\n")[1:]
	used := slices.Compact(slices.Sorted(strings.FieldsSeq(linked)))
	fmt.Printf("\n%s: `go list -m all` names %d modules beside the program's own; the program is built from %d\n",
		library, len(modules), len(used)-1)

	for _, line := range modules {
		fmt.Println("\t" + line)
	}

	return nil
}

// install installs the program and asks it for its version.
func (g goCommand) install(dir string, m module.Version) error {
	target := root + "/cmd/coppice@" + m.Version
	began := time.Now()
	if _, err := g.run(dir, "install", target); err != nil {
		return err
	}

	out, err := exec.Command(filepath.Join(dir, "bin", "coppice"), "version").Output()
	if err != nil {
		return fmt.Errorf("coppice version: %w", err)
	}
	fmt.Printf("\ngo install %s: %d s\n%s", target, int(time.Since(began).Seconds()), out)

	return nil
}
