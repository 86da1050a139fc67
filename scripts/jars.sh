# Sourced by scripts/*/run: the jars of a pom.xml, fetched by Maven the first time.

# need TOOL WHAT: ends where a tool is not on the PATH.
need() { command -v "$1" >/dev/null || { echo "$0 needs $1 ($2) on the PATH" >&2; exit 1; }; }

# fetch_jars DIRECTORY: DIRECTORY/pom.xml to DIRECTORY/.jars. Several that start at once wait for one download; a
# directory that is moved into its place is whole.
fetch_jars() {
  local here=$1 jars=$1/.jars
  exec 9>"$here/.lock"
  flock 9
  if [ ! -d "$jars" ] || [ "$here/pom.xml" -nt "$jars" ]; then
    need mvn "Maven 3"
    rm -rf "$jars" "$jars.new"
    mvn --quiet --batch-mode --file "$here/pom.xml" dependency:copy-dependencies \
      -DincludeScope=runtime -DoutputDirectory="$jars.new"
    mv "$jars.new" "$jars"
    touch "$jars"
  fi
  exec 9>&-
}
