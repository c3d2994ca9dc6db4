# Runs a compiler and keeps its stderr beside the object it makes: <object>.report
for argument; do
  [ "$previous" = -o ] && object=$argument
  previous=$argument
done
if [ -z "$object" ]; then exec "$@"; fi
"$@" 2>"$object.report"
status=$?
if [ $status -ne 0 ]; then
  cat "$object.report" >&2
else
  grep -E 'warning|error' "$object.report" >&2
fi
exit $status
