"""Scoring ego policies on scenes of logs; see `perlsim.eval_command`."""
