%% The Erlang side of the differential test: plays one history after the other on OTP's own supervisor and answers with the trace, as text.
%%
%% It wants one scheduler (erl +S 1): after a yield with an empty run queue nothing but this process can run, so the tree is quiet.
%% Starts are noted by the start functions, reports by a logger handler, both in the supervisor's own process; exits are traced.
%% All carry unique_integer([monotonic]), so that one sort gives the order in which things happened.
-module(otpdiff).
-export([main/0, play/1]).
-export([start/2, start_gate/1, init/1, log/2]).

-define(LOG, otpdiff_log).
-define(REG, otpdiff_reg).

%% main serves histories as external terms in frames of four bytes of length: file descriptor 3 in, 4 out.
main() ->
    setup(),
    serve(open_port({fd, 3, 4}, [binary, {packet, 4}, eof])).

serve(Port) ->
    receive
        {Port, {data, B}} ->
            true = port_command(Port, trace(binary_to_term(B))),
            serve(Port);
        {Port, eof} ->
            halt(0)
    end.

%% play prints the trace of one history; for scripts.
play(Case) ->
    setup(),
    io:put_chars(trace(Case)),
    halt(0).

setup() ->
    process_flag(trap_exit, true),
    ?LOG = ets:new(?LOG, [named_table, public, ordered_set]),
    ?REG = ets:new(?REG, [named_table, public, set]),
    ets:insert(?REG, {driver, self()}),
    %% Code that is loaded at its first use is read while nothing seems to run.
    ok = code:ensure_modules_loaded([M || App <- [kernel, stdlib], M <- element(2, application:get_key(App, modules))]),
    _ = logger:remove_handler(default),
    ok = logger:add_handler(?MODULE, ?MODULE, #{}).

%% ---- one history ----

trace({history, Root, Steps}) ->
    ets:delete_all_objects(?LOG),
    ets:delete_all_objects(?REG),
    ets:insert(?REG, [{driver, self()}, {open}]), % nothing hangs before there is someone to open
    {Sup, Start} = case start(<<>>, Root) of
        {ok, Pid} -> {Pid, <<"ok">>};
        {error, R} -> {none, [<<"error ">>, reason(R)]};
        ignore -> {none, <<"ignore">>}
    end,
    ets:delete(?REG, open),
    First = [<<"== start\n">>, after_step(Sup, [[<<"answer 0: ">>, Start, $\n]])],
    Rest = steps(Sup, Steps, 1, []),
    iolist_to_binary([First, Rest, finish(Sup)]).

steps(_, [], _, Out) -> lists:reverse(Out);
steps(Sup, [Step | More], K, Out) ->
    Now = step(Sup, K, Step),
    quiet(),
    Lines = [io_lib:format("== ~b~n", [K]), Now, after_step(Sup, answers())],
    steps(Sup, More, K + 1, [Lines | Out]).

%% What happened since the last step, then the answers that came, then what the supervisors say.
after_step(Sup, Answers) ->
    quiet(),
    Events = events(),
    [Events, Answers, ended(Sup), snapshot(<<>>, Sup)].

ended(none) -> [];
ended(Sup) ->
    receive {'EXIT', Sup, R} -> [<<"root ended: ">>, reason(R), $\n] after 0 -> [] end.

finish(_) ->
    flush(),
    Left = [P || [P] <- ets:match(?REG, {{pid, '$1'}, '_', '_', '_'}), is_process_alive(P)],
    [exit(P, kill) || P <- Left],
    [io_lib:format("left: ~b~n", [length(Left)]), pending_answers()].

flush() -> receive {'EXIT', _, _} -> flush() after 0 -> ok end.

%% A history leaves no call without an answer: nothing hangs after the stop.
pending_answers() ->
    [io_lib:format("unanswered ~b~n", [K]) || [K] <- lists:sort(ets:match(?REG, {{asked, '$1'}}))].

%% ---- quiet ----

quiet() -> quiet(4).

quiet(0) ->
    case [P || [P] <- ets:match(?REG, {{deaf, '$1'}}), is_process_alive(P)] of
        [] -> ok;
        _ -> receive after 2 -> quiet(4) end % its supervisor's timer will kill it
    end;
quiet(N) ->
    erlang:yield(),
    case statistics(run_queue) of
        0 -> quiet(N - 1);
        _ -> quiet(4)
    end.

%% ---- the log ----

note(Line) -> ets:insert(?LOG, {erlang:unique_integer([monotonic]), Line}).

events() ->
    Ref = erlang:trace_delivered(all),
    receive {trace_delivered, all, Ref} -> ok end,
    exits(),
    Lines = [[L, $\n] || {_, L} <- ets:tab2list(?LOG)],
    ets:delete_all_objects(?LOG),
    Lines.

exits() ->
    receive
        {trace_ts, Pid, exit, R, {_, At}} -> exited(Pid, R, At), exits();
        {trace_ts, _, _, _, _} -> exits();
        {trace_ts, _, _, _, _, _} -> exits()
    after 0 -> ok
    end.

exited(Pid, R, At) ->
    case ets:lookup(?REG, {pid, Pid}) of
        [{_, Path, N, worker}] ->
            case ets:member(?REG, {by_itself, Pid}) of
                true -> ok; % the history said so: a cause, no effect
                false -> ets:insert(?LOG, {At, [<<"stop ">>, inc(Path, N), $\s, reason(R)]})
            end;
        [{_, Path, N, _}] ->
            case ets:member(?REG, {unborn, Pid}) orelse unborn(R) of
                true -> ok;
                false -> ets:insert(?LOG, {At, [<<"end ">>, inc(Path, N), $\s, reason(R)]})
            end;
        [] -> ok % no child: one that the runtime itself began, loading code for instance, or a child that was killed before its first step
    end.

unborn({shutdown, {failed_to_start_child, _, _}}) -> true;
unborn(_) -> false.

inc(<<>>, N) -> [<<"root#">>, integer_to_binary(N)];
inc(Path, N) -> [Path, $#, integer_to_binary(N)].

%% log is the logger handler: it runs in the process that reports.
log(#{level := error, msg := {report, #{label := {supervisor, _}, report := R}}}, _) ->
    try
        Path = case proplists:get_value(supervisor, R) of
            {Pid, _} -> path(Pid)
        end,
        [{_, _, _, Kind}] = ets:lookup(?REG, {pid, self()}),
        Offender = proplists:get_value(offender, R),
        Id = case Kind of dynamic -> <<"*">>; _ -> proplists:get_value(id, Offender) end,
        Count = case proplists:get_value(nb_children, Offender, 1) of
            1 -> [];
            C -> [<<" x">>, integer_to_binary(C)]
        end,
        Context = proplists:get_value(errorContext, R),
        Why = proplists:get_value(reason, R),
        case Context of
            shutdown when Why =:= reached_max_restart_intensity -> note([<<"report gave_up ">>, join(Path, Id)]);
            %% Rule 58, the two rows of the closed list: told to stop, permanent, and ended with normal or with {shutdown, _}.
            shutdown_error ->
                Quiet = proplists:get_value(restart_type, Offender) =:= permanent andalso closed(Why, Offender, Kind),
                Quiet orelse note([<<"report shutdown_error ">>, join(Path, Id), $\s, reason(Why), Count]);
            _ -> note([<<"report ">>, atom_to_binary(Context), $\s, join(Path, Id), $\s, reason(Why), Count])
        end
    catch
        A:B:S -> note(io_lib:format("handler failed: ~p", [{A, B, S, R}]))
    end;
log(_, _) -> ok.

closed({shutdown, _}, Offender, _) -> proplists:get_value(shutdown, Offender) =/= brutal_kill;
closed(normal, _, dynamic) -> true; % an instance that ended before it was told is not among those that are reported together
closed(normal, Offender, _) -> not ets:member(?REG, {by_itself, proplists:get_value(pid, Offender)});
closed(_, _, _) -> false.

path(Pid) ->
    case ets:lookup(?REG, {pid, Pid}) of
        [{_, Path, _, _}] -> Path;
        [] -> <<"?">>
    end.

join(<<>>, Id) -> Id;
join(Path, Id) -> <<Path/binary, $/, Id/binary>>.

reason(normal) -> <<"normal">>;
reason(shutdown) -> <<"shutdown">>;
reason(killed) -> <<"killed">>;
reason(crash) -> <<"crash">>;
reason(goexit) -> <<"goexit">>;
reason(boom) -> <<"boom">>;
reason(garbage) -> <<"garbage">>;
reason({shutdown, detail}) -> <<"shutdown:detail">>;
reason({panic, [_ | _]}) -> <<"panic">>;
reason({bad_return, {?MODULE, init, R}}) -> reason(R);
reason({'EXIT', R}) -> reason(R);
reason({shutdown, {failed_to_start_child, Id, R}}) -> [<<"failed(">>, Id, <<": ">>, reason(R), $)];
reason(R) -> io_lib:format("~0p", [R]).

%% ---- children ----

%% start is every child's start function. It runs in the supervisor's process. An instance has its template's shutdown time.
start({Parent, Shutdown}, Instance) -> start(Parent, setelement(5, Instance, Shutdown));
start(Parent, {node, Id, _, _, Shutdown, Starts, OnStop, Sup}) ->
    Path = case Sup of {_, _, _, _, _, root, _} -> <<>>; _ -> join(Parent, Id) end,
    N = ets:update_counter(?REG, {count, Path}, 1, {{count, Path}, 0}),
    note([<<"start ">>, inc(Path, N)]),
    Outcome = try lists:nth(N, Starts) catch error:_ -> ok end,
    case Sup of
        none -> worker(Path, N, Outcome, {OnStop, Shutdown});
        _ ->
            case supervisor:start_link(?MODULE, {Path, N, Outcome, Sup}) of
                {ok, Pid} when Outcome =:= info; Outcome =:= {hang, info} -> {ok, Pid, info};
                Other -> Other
            end
    end.

worker(Path, N, {hang, Outcome}, OnStop) ->
    gate(),
    worker(Path, N, Outcome, OnStop);
worker(Path, N, Outcome, OnStop) ->
    case Outcome of
        ok -> {ok, run(Path, N, OnStop)};
        info -> {ok, run(Path, N, OnStop), info};
        ignore -> ignore;
        boom -> {error, boom};
        panic -> error(panic);
        garbage -> garbage
    end.

run(Path, N, {OnStop, Shutdown}) ->
    Sup = self(),
    Ref = make_ref(),
    Pid = spawn_link(fun() -> process_flag(trap_exit, true), Sup ! Ref, live(OnStop, Sup) end),
    receive Ref -> ok end,
    known(Pid, Path, N, worker),
    Shutdown =:= brutal_kill andalso ets:insert(?REG, {{brutal, Pid}}),
    Pid.

known(Pid, Path, N, Kind) ->
    [{_, Driver}] = ets:lookup(?REG, driver),
    1 = erlang:trace(Pid, true, [procs, strict_monotonic_timestamp, {tracer, Driver}]),
    ets:insert(?REG, [{{pid, Pid}, Path, N, Kind}, {{current, Path}, Pid}]).

live(OnStop, Sup) ->
    receive
        {die, R} -> ets:insert(?REG, {{by_itself, self()}}), die(R);
        {call, F} -> F(), ets:delete(?REG, {calling, self()}), live(OnStop, Sup);
        {'EXIT', Sup, _} -> told(OnStop)
    end.

die(panic) -> error(panic);
die(R) -> exit(R).

told(obey) -> exit(shutdown);
told(normal) -> exit(normal);
told(crash) -> exit(crash);
told(detail) -> exit({shutdown, detail});
told(deaf) -> ets:insert(?REG, {{deaf, self()}}), receive never -> ok end;
told(slow) ->
    case closed_gate() of
        false -> exit(shutdown);
        true -> receive release -> exit(shutdown); {die, R} -> die(R) end
    end.

%% A gate holds who comes to it until the history, or its end, opens it.
gate() ->
    case closed_gate() of
        false -> ok;
        true -> receive release -> ok end
    end.

closed_gate() ->
    case ets:member(?REG, open) of
        true -> false;
        false -> ets:insert(?REG, {{gate, self()}, erlang:unique_integer([monotonic])})
    end.

gates() -> [P || [_, P] <- lists:sort(ets:match(?REG, {{gate, '$2'}, '$1'}))].

%% release opens the gates one after the other: what two supervisors do at the same time has no order.
release() ->
    [begin ets:delete(?REG, {gate, P}), P ! release, quiet() end || P <- gates()].

%% start_gate is the start of the child that holds a supervisor: it answers ignore, and being temporary it leaves nothing.
start_gate(Path) ->
    N = ets:update_counter(?REG, {count, Path}, 1, {{count, Path}, 0}),
    note([<<"start ">>, inc(Path, N)]),
    gate(),
    ignore.

init({Path, N, Outcome, Sup}) ->
    Kind = case Sup of {sup, simple_one_for_one, _, _, _, _, _} -> dynamic; _ -> supervisor end,
    known(self(), Path, N, Kind),
    made(Path, Outcome, Sup).

made(Path, {hang, Outcome}, Sup) ->
    gate(),
    made(Path, Outcome, Sup);
made(Path, Outcome, {sup, Strategy, Max, Period, Auto, _, Children}) when Outcome =:= ok; Outcome =:= info ->
    Flags = #{strategy => Strategy, intensity => Max, period => Period},
    {ok, {case Auto of never -> Flags; _ -> Flags#{auto_shutdown => Auto} end, [spec(Path, Strategy, C) || C <- Children]}};
made(_, Outcome, _) ->
    ets:insert(?REG, {{unborn, self()}}),
    case Outcome of
        ignore -> ignore;
        panic -> error(panic);
        R -> R
    end.

spec(Path, Strategy, {node, Id, Restart, Significant, Shutdown, _, _, Sup} = Node) ->
    Args = case Strategy of simple_one_for_one -> [{Path, Shutdown}]; _ -> [Path, Node] end,
    Spec = #{id => Id, start => {?MODULE, start, Args}, restart => Restart, significant => Significant,
             type => case Sup of none -> worker; _ -> supervisor end},
    case Shutdown of default -> Spec; _ -> Spec#{shutdown => Shutdown} end.

%% ---- steps ----

step(Root, K, Step) -> step(alive(Root), Root, K, Step).

step(false, _, _, _) -> <<"over\n">>;
step(true, Root, K, {Op, Path, Arg, By}) ->
    Fresh = fresh(),
    case Op of
        stop ->
            ets:insert(?REG, {open}),
            release(), quiet(),
            Lines = [events(), answers()],
            exit(Root, Arg),
            Lines;
        release -> release(), [];
        sleep -> receive after Arg -> [] end;
        _ ->
            {Parent, Pid} = case Op of
                die -> {parent(Path), current(Path)};
                _ -> {Path, current(Path)}
            end,
            case {current(Parent), Pid} of
                {none, _} -> <<"absent\n">>;
                {_, none} -> <<"absent\n">>;
                {S, P} ->
                    case By =/= <<>> andalso caller(By) of
                        none -> <<"absent\n">>;
                        Caller ->
                            case allowed(S, P, Op) andalso may_call(Caller, By, Op, P, Path, Arg, Fresh) of
                                false -> <<"skipped\n">>;
                                true -> act(Op, {K, Caller}, P, Path, Arg)
                            end
                    end
            end
    end.

%% caller is the running worker that makes a call.
caller(By) ->
    case current(By) of
        none -> none;
        Pid -> case kind(Pid) of worker -> Pid; _ -> none end
    end.

%% fresh is the supervisor that the last step began to hold, while nothing else hung.
fresh() ->
    case ets:take(?REG, fresh) of
        [{fresh, Path}] -> {held, Path};
        [] -> none
    end.

%% A child that waits for an answer is let alone. Its call is the first that its supervisor serves: see mayCall on the Go side.
may_call(_, _, die, P, _, _, _) -> not ets:member(?REG, {calling, P});
may_call(false, _, Op, _, Path, _, _) ->
    [ets:insert(?REG, {fresh, Path}) || Op =:= hold, gates() =:= []],
    true;
may_call(Caller, By, Op, _, Path, Arg, Fresh) ->
    not ets:member(?REG, {brutal, Caller}) andalso
    not (Op =:= terminate_child andalso within(By, join(Path, Arg))) andalso (gates() =:= [] orelse Fresh =:= {held, Path}).

within(Path, Path) -> true;
within(Path, At) -> binary:longest_common_prefix([Path, <<At/binary, $/>>]) =:= byte_size(At) + 1.

%% Rule 15: here a stop would wait for a start that hangs, there it ends it. So while something hangs, only those that wait for it are
%% touched, and none of them is told to end. Nor is one touched whose parent waits for it: it would go on at the same time as its parent.
allowed(S, Pid, Op) ->
    case gates() of
        [] -> true;
        _ when Op =:= get_childspec; Op =:= finish -> false; % rule 28: reads do not wait in Go
        Gates -> (Op =:= die andalso kind(Pid) =:= worker andalso lists:member(Pid, Gates)) orelse (waits(S) andalso free(path(S)))
    end.

waits(S) -> kind(S) =/= worker andalso not idle(S).

free(<<>>) -> true;
free(Path) -> idle(current(parent(Path))).

idle(S) ->
    case process_info(S, current_function) of
        {_, {gen_server, loop, _}} -> true;
        {_, {erlang, hibernate, _}} -> true;
        {_, {gen_server, loop_hibernate, _}} -> true;
        _ -> false
    end.

alive(Pid) -> is_pid(Pid) andalso is_process_alive(Pid).

parent(Path) ->
    case binary:matches(Path, <<"/">>) of
        [] -> <<>>;
        M -> {At, 1} = lists:last(M), binary:part(Path, 0, At)
    end.

current(Path) ->
    case ets:lookup(?REG, {current, Path}) of
        [{_, Pid}] -> case is_process_alive(Pid) of true -> Pid; false -> none end;
        [] -> none
    end.

kind(Pid) ->
    [{_, _, _, Kind}] = ets:lookup(?REG, {pid, Pid}),
    Kind.

act(die, _, Pid, _, R) ->
    case kind(Pid) of
        worker when R =:= kill ->
            %% At a gate it has been told to stop, so this is how it stops.
            ets:member(?REG, {gate, Pid}) orelse ets:insert(?REG, {{by_itself, Pid}}),
            ets:delete(?REG, {gate, Pid}),
            exit(Pid, kill), [];
        worker -> ets:delete(?REG, {gate, Pid}), Pid ! {die, R}, [];
        _ -> <<"absent\n">>
    end;
act(Op, K, Pid, Path, Arg) ->
    case {kind(Pid), Op} of
        {worker, _} -> <<"absent\n">>;
        {_, finish} -> ask(K, fun() -> gen_server:stop(Pid, Arg, infinity) end);
        {dynamic, start_instance} -> ask(K, fun() -> supervisor:start_child(Pid, [Arg]) end);
        {dynamic, terminate_child} ->
            case ets:lookup(?REG, {current, join(Path, Arg)}) of
                [] -> <<"absent\n">>;
                [{_, C}] -> ask(K, fun() -> supervisor:terminate_child(Pid, C) end)
            end;
        {dynamic, _} -> <<"absent\n">>;
        {_, start_instance} -> <<"absent\n">>;
        {_, hold} ->
            Gate = #{id => <<"gate">>, start => {?MODULE, start_gate, [join(Path, <<"gate">>)]}, restart => temporary},
            ask(K, fun() -> supervisor:start_child(Pid, Gate) end);
        {_, start_child} -> ask(K, fun() -> supervisor:start_child(Pid, spec(Path, none, Arg)) end);
        {_, terminate_child} -> ask(K, fun() -> supervisor:terminate_child(Pid, Arg) end);
        {_, restart_child} -> ask(K, fun() -> supervisor:restart_child(Pid, Arg) end);
        {_, delete_child} -> ask(K, fun() -> supervisor:delete_child(Pid, Arg) end);
        {_, get_childspec} -> ask(K, fun() -> supervisor:get_childspec(Pid, Arg) end)
    end.

ask({K, Caller}, F) ->
    ets:insert(?REG, {{asked, K}}),
    Call = fun() ->
        A = try answer(F()) catch exit:_ -> <<"gone">> end,
        ets:insert(?REG, {{answer, K}, A}),
        ets:delete(?REG, {asked, K})
    end,
    case Caller of
        false -> spawn(Call);
        _ -> ets:insert(?REG, {{calling, Caller}}), Caller ! {call, Call}
    end,
    [].

answers() ->
    As = lists:sort(ets:match(?REG, {{answer, '$1'}, '$2'})),
    ets:match_delete(?REG, {{answer, '_'}, '_'}),
    [[io_lib:format("answer ~b: ", [K]), A, $\n] || [K, A] <- As].

answer(ok) -> <<"ok">>;
answer({ok, #{restart := R, significant := S}}) -> io_lib:format("~s ~s", [R, S]);
answer({ok, undefined}) -> <<"ok none">>;
answer({ok, Pid}) -> [<<"ok ">>, number(Pid)];
answer({ok, Pid, info}) -> [<<"ok ">>, number(Pid), <<" info">>];
answer({error, {already_started, Pid}}) -> [<<"already_started ">>, number(Pid)];
answer({error, already_present}) -> <<"already_present">>;
answer({error, not_found}) -> <<"not_found">>;
answer({error, running}) -> <<"running">>;
answer({error, restarting}) -> <<"restarting">>;
answer({error, {bad_combination, _}}) -> <<"bad_spec">>;
answer({error, {R, C}}) when element(1, C) =:= child -> [<<"error ">>, reason(R)];
answer({error, R}) -> [<<"error ">>, reason(R)].

number(Pid) ->
    [{_, _, N, _}] = ets:lookup(?REG, {pid, Pid}),
    [$#, integer_to_binary(N)].

%% ---- what the supervisors say ----

snapshot(Path, Pid) ->
    case alive(Pid) of
        false -> [];
        true ->
            case idle(Pid) of
                false -> [<<"blocked ">>, name(Path), $\n];
                true -> listing(kind(Pid), Path, Pid)
            end
    end.

name(<<>>) -> <<"root">>;
name(Path) -> Path.

listing(dynamic, Path, Pid) ->
    Ids = lists:sort([entry(path(P), P) || {_, P, _, _} <- supervisor:which_children(Pid)]),
    [<<"which ">>, name(Path), $:, [[$\s, I] || I <- Ids], $\n, counts(Path, Pid)];
listing(_, Path, Pid) ->
    All = supervisor:which_children(Pid),
    [<<"which ">>, name(Path), $:, [[$\s, entry(I, P)] || {I, P, _, _} <- All], $\n, counts(Path, Pid),
     [snapshot(join(Path, I), P) || {I, P, supervisor, _} <- All, is_pid(P)]].

entry(I, P) when is_pid(P) -> [I, number(P)];
entry(I, undefined) -> [I, $-];
entry(I, restarting) -> [I, $~].

counts(Path, Pid) ->
    C = supervisor:count_children(Pid),
    [<<"count ">>, name(Path), $:, [[$\s, integer_to_binary(proplists:get_value(K, C))] || K <- [specs, active, supervisors, workers]], $\n].
